package main

import (
	"fmt"
	"reflect"

	"github.com/alecthomas/kong"
)

// word takes an argument as it is. kong's own way for strings is by JSON, which
// puts U+FFFD in the place of every byte that is not UTF-8, and names of files
// need not be.
func word(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err //nolint:wrapcheck // kong finishes the sentence
	}
	text, ok := token.Value.(string)
	if !ok {
		return fmt.Errorf("%v is no word", token.Value)
	}
	target.SetString(text)
	return nil
}
