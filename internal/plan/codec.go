package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
)

// The plan crosses to pid 1 in a form of its own: the fields' values in their
// order, without names. Both ends are the same binary, so nothing needs to be
// told. JSON, which has to learn every type anew in every process, took a
// millisecond for it, a tenth of a whole run.
//
// A value is a bool or number as a varint, a string or slice as its length and
// elements, a pointer as 0 or 1 and what it points to, a struct as its fields.
// Other kinds are a mistake in the program.

// errCodec means that what was read was not written by Encode of this binary.
var errCodec = errors.New("the data is cut short or not what was expected")

// Encode returns v, a pointer to a value of the kinds above, as bytes.
func Encode(v any) []byte {
	return appendValue(make([]byte, 0, 8<<10), reflect.ValueOf(v).Elem())
}

// Decode reads into v what Encode wrote of a value of the same type.
func Decode(data []byte, v any) error {
	rest, err := readValue(data, reflect.ValueOf(v).Elem())
	if err == nil && len(rest) != 0 {
		err = errCodec
	}
	return err
}

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...)
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...)
		}
		return appendElements(b, v)
	case reflect.Array:
		return appendElements(b, v)
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return appendValue(append(b, 1), v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
		return b
	default:
		panic(fmt.Sprintf("plan: a value of kind %s cannot cross to pid 1", v.Kind()))
	}
}

func appendElements(b []byte, v reflect.Value) []byte {
	for i := range v.Len() {
		b = appendValue(b, v.Index(i))
	}
	return b
}

func readValue(b []byte, v reflect.Value) ([]byte, error) {
	switch v.Kind() {
	case reflect.Bool:
		if len(b) == 0 || b[0] > 1 {
			return nil, errCodec
		}
		v.SetBool(b[0] == 1)
		return b[1:], nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, used := binary.Varint(b)
		if used <= 0 || v.OverflowInt(n) {
			return nil, errCodec
		}
		v.SetInt(n)
		return b[used:], nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, used := binary.Uvarint(b)
		if used <= 0 || v.OverflowUint(n) {
			return nil, errCodec
		}
		v.SetUint(n)
		return b[used:], nil
	case reflect.String:
		data, rest, err := readBytes(b)
		v.SetString(string(data))
		return rest, err
	case reflect.Slice:
		return readSlice(b, v)
	default:
		return readCompound(b, v)
	}
}

func readCompound(b []byte, v reflect.Value) (rest []byte, err error) {
	switch v.Kind() {
	case reflect.Array:
		return readElements(b, v)
	case reflect.Pointer:
		if len(b) == 0 || b[0] > 1 {
			return nil, errCodec
		}
		if b[0] == 0 {
			return b[1:], nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return readValue(b[1:], v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if b, err = readValue(b, v.Field(i)); err != nil {
				return nil, err
			}
		}
		return b, nil
	default:
		panic(fmt.Sprintf("plan: a value of kind %s cannot cross to pid 1", v.Kind()))
	}
}

func readBytes(b []byte) (data, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, errCodec
	}
	b = b[used:]
	return b[:n], b[n:], nil
}

// readSlice leaves an empty slice nil, as the zero value has it. An element
// takes a byte at the least, which bounds what a wrong length can ask for.
func readSlice(b []byte, v reflect.Value) ([]byte, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		data, rest, err := readBytes(b)
		if len(data) > 0 {
			v.SetBytes(append([]byte(nil), data...))
		}
		return rest, err
	}
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, errCodec
	}
	if n > 0 {
		v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	}
	return readElements(b[used:], v)
}

func readElements(b []byte, v reflect.Value) (rest []byte, err error) {
	for i := range v.Len() {
		if b, err = readValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return b, nil
}
