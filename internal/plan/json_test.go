package plan

import (
	"encoding/json"
	"reflect"
	"testing"
)

// `sbx plan --json` shows everything there is, and what it shows is enough to
// know what would be done.
func TestJSONRoundTrip(t *testing.T) {
	for _, v := range []any{new(Spec), new(Plan), new(Facts)} {
		n := 0
		f := reflect.ValueOf(v).Elem()
		if facts, ok := v.(*Facts); ok {
			facts.Environ, facts.HardLimits = map[string]string{"A": "b"}, map[int]uint64{1: Unlimited}
		}
		fillStruct(f, &n)
		roundTrip(t, v)
	}
}

// fill gives every field of v a value that is not its zero, so that one that is
// forgotten shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(-*n % 100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 100))
	case reflect.String:
		v.SetString(string(rune('a' + *n%26)))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

// fillStruct is fill for structs that hold maps, which are filled already.
func fillStruct(v reflect.Value, n *int) {
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Map {
			fill(v.Field(i), n)
		}
	}
}

func roundTrip(t *testing.T, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	back := reflect.New(reflect.TypeOf(v).Elem())
	if err := json.Unmarshal(data, back.Interface()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Interface(), v) {
		t.Errorf("%T through JSON\ngot  %+v\nwant %+v", v, back.Elem().Interface(), reflect.ValueOf(v).Elem().Interface())
	}
}

func TestJSONOfARealPlan(t *testing.T) {
	f := alice()
	f.Shares = []Shared{{Share: Share{PathPair{"/a", "/a"}, true}, Resolved: "/a", Dev: 1, Ino: 1 << 63, Directory: true}}
	p, err := Build(Spec{Program: "x", Args: []string{"<&>", "\u2028"}, Tmpfs: []TmpfsSpec{{Target: "/t"}}}, f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Stages(), p.Stages()) {
		t.Errorf("other stages:\n%v\n%v", back.Stages(), p.Stages())
	}
	roundTrip(t, &back)
}
