package main

import (
	"reflect"
	"strings"
)

// plainRun reads the arguments of run where they are of the plainest kind:
// "--flag value", "--flag=value" or "-f value" with a word as the value, and
// flags without a value. Everything else, mistakes included, is kong's to read
// or to explain: ok is false then.
//
// kong learns the whole grammar of a command by reflection, at each start: a
// millisecond of processor time, a tenth of a whole run. This looks up what is
// there, in the same tags, and a test holds it to kong's answer.
func plainRun(args []string) (c *runCommand, ok bool) {
	c = new(runCommand)
	flags := reflect.ValueOf(c).Elem()
	setDefaults(flags)
	seen := map[string]bool{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, value, assigned := strings.Cut(args[0], "=")
		args = args[1:]
		field, tag, found := findFlag(flags, name)
		if !found || assigned && !strings.HasPrefix(name, "--") {
			return nil, false
		}
		kind := field.Kind()
		if kind != reflect.Slice && seen[name] {
			return nil, false
		}
		seen[name] = true
		if kind == reflect.Bool {
			if assigned {
				return nil, false
			}
			field.SetBool(true)
			continue
		}
		if !assigned {
			if len(args) == 0 || strings.HasPrefix(args[0], "-") {
				return nil, false
			}
			value, args = args[0], args[1:]
		}
		switch {
		case kind == reflect.String:
			field.SetString(value)
		case field.Type() == reflect.TypeFor[*string]():
			field.Set(reflect.ValueOf(&value))
		case kind == reflect.Slice && tag.Get("sep") != "none" && !isWord(value):
			return nil, false // kong takes a list apart, and escapes in it
		case kind == reflect.Slice:
			field.Set(reflect.Append(field, reflect.ValueOf(value)))
		default: // numbers and times have mistakes of their own
			return nil, false
		}
	}
	if len(args) == 0 {
		return c, true // the image may say what to run
	}
	if args[0] == "" {
		return nil, false
	}
	c.Command = args
	return c, true
}

// isWord tells whether a list consists of one plain word, such as a layer's name.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// findFlag finds the field of a flag, "--name" or "-n", and its tag.
func findFlag(flags reflect.Value, flag string) (field reflect.Value, tag reflect.StructTag, found bool) {
	for i := range flags.NumField() {
		f := flags.Type().Field(i)
		switch {
		case f.Anonymous:
			if field, tag, found = findFlag(flags.Field(i), flag); found {
				return field, tag, true
			}
			continue
		case f.Tag.Get("arg") != "" || f.Name == "Command":
			continue
		}
		if short := f.Tag.Get("short"); short != "" && flag == "-"+short {
			return flags.Field(i), f.Tag, true
		}
		name := f.Tag.Get("name")
		if name == "" {
			name = flagName(f.Name)
		}
		if flag == "--"+name {
			return flags.Field(i), f.Tag, true
		}
	}
	return reflect.Value{}, "", false
}

// flagName is how kong calls the flag of a field: CopyIn is copy-in.
func flagName(field string) string {
	var b strings.Builder
	for i, r := range field {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

func setDefaults(flags reflect.Value) {
	for i := range flags.NumField() {
		f := flags.Type().Field(i)
		if f.Anonymous {
			setDefaults(flags.Field(i))
		} else if value, ok := f.Tag.Lookup("default"); ok {
			flags.Field(i).SetString(value)
		}
	}
}
