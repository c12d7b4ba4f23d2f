package plan

import (
	"reflect"
	"testing"
	"time"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// fill gives every field of v a value that is not its zero, so that one that
// the codec forgets shows.
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

func TestEveryFieldOfAPlanCrosses(t *testing.T) {
	var want, got Plan
	n := 0
	fill(reflect.ValueOf(&want).Elem(), &n)
	if err := Decode(Encode(&want), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCutAndForeignDataIsAnError(t *testing.T) {
	p := Plan{ID: "x", Mounts: []mounts.Mount{{Target: "/proc"}}, Process: Process{Timeout: time.Second}}
	p.Identity.Layout.SetupUID = userns.Map{{Outside: 1 << 31, Count: 1}}
	data := Encode(&p)
	for n := range data {
		if err := Decode(data[:n], &Plan{}); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for a plan", n, len(data))
		}
	}
	if err := Decode(append(data, 0), &Plan{}); err == nil {
		t.Error("a byte too many is taken for a plan")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(&Plan{ID: "x", Mounts: []mounts.Mount{{Target: "/proc"}}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p, again Plan
		if Decode(data, &p) != nil {
			return
		}
		if err := Decode(Encode(&p), &again); err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("what was decoded does not come back: %v", err)
		}
	})
}
