package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// The profile is read into plain values first, by hand: encoding/json's own mapping to structs takes "DefaultAction" for "defaultAction" and
// the last of two equal keys, and a profile that is read differently than it was meant may allow more than it was meant to.

// object is a JSON object whose keys were all different. Members that are null are left out.
type object map[string]any

// maxDepth is more than any profile needs.
const maxDepth = 16

func readJSON(r io.Reader, limit int64) (object, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := readValue(dec, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("not a profile in JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the end of the JSON object")
	}
	o, ok := v.(object)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return o, nil
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return readObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := readValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return token, nil
}

func readObject(dec *json.Decoder, depth int) (object, error) {
	o := object{}
	var nulls []string
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if _, twice := o[key]; twice || slices.Contains(nulls, key) {
			return nil, fmt.Errorf("%q stands twice in one object", key)
		}
		v, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if v == nil {
			nulls = append(nulls, key)
			continue
		}
		o[key] = v
	}
	_, err := dec.Token()
	return o, err
}

// only refuses every member but the named ones: one that is not understood might take something away.
func (o object) only(names ...string) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(names, key) {
			return fmt.Errorf("unknown field %q", key)
		}
	}
	return nil
}

// str returns a string member, "" when there is none.
func (o object) str(name string) (string, error) {
	v, ok := o[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}

func (o object) strings(name string) ([]string, error) {
	list, err := o.list(name)
	if err != nil {
		return nil, err
	}
	var strs []string
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s holds something that is not a string", name)
		}
		strs = append(strs, s)
	}
	return strs, nil
}

func (o object) list(name string) ([]any, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", name)
	}
	return list, nil
}

func (o object) objects(name string) ([]object, error) {
	list, err := o.list(name)
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, v := range list {
		m, ok := v.(object)
		if !ok {
			return nil, fmt.Errorf("%s holds something that is not an object", name)
		}
		objects = append(objects, m)
	}
	return objects, nil
}

func (o object) object(name string) (object, error) {
	v, ok := o[name]
	if !ok {
		return nil, nil
	}
	m, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return m, nil
}

// number returns a whole number from 0 to limit, and whether the member is there.
func (o object) number(name string, limit uint64) (uint64, bool, error) {
	v, ok := o[name]
	if !ok {
		return 0, false, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, false, fmt.Errorf("%s is not a number", name)
	}
	u, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil || u > limit {
		return 0, false, fmt.Errorf("%s is %s, not a whole number from 0 to %d", name, n, limit)
	}
	return u, true, nil
}
