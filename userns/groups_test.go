package userns

import (
	"os"
	"reflect"
	"testing"
)

func TestDescribeGroups(t *testing.T) {
	const text = "root:x:0:\nadm:x:4:alice\ndocker:x:998:alice\nbackup-admins:x:998:\n" +
		"alice:x:1001:\nprojects:x:2000:alice\nnonsense\n:x:3000:\nbad:x:0x7d1:\n"
	for _, test := range []struct {
		name    string
		gids    []int
		primary int
		want    []Group
	}{
		{name: "none but the primary", gids: []int{1001}, primary: 1001},
		{name: "power and none", gids: []int{2000, 998, 4, 1001}, primary: 1001, want: []Group{
			{4, "adm", true, "may read the system's logs"},
			{998, "docker", true, "may start containers as root"},
			{2000, "projects", false, ""},
		}},
		{name: "unknown, and one above 2^31", gids: []int{4000000000, 3000, 2001}, primary: 1001, want: []Group{
			{GID: 2001}, {GID: 3000}, {GID: 4000000000},
		}},
		{name: "primary with power", primary: 998, want: []Group{{998, "docker", true, "may start containers as root"}}},
		{name: "group 0", gids: []int{0, 0}, primary: 1001, want: []Group{{0, "root", true, "root's own group"}}},
	} {
		if got := describeGroups(test.gids, test.primary, []byte(text)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestSurvivingGroups(t *testing.T) {
	groups, err := SurvivingGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.String() == "" || g.Power != (g.Why != "") || (int(g.GID) == os.Getegid() && !g.Power) {
			t.Errorf("%+v", g)
		}
	}
}

func FuzzParseGroup(f *testing.F) {
	f.Add([]byte("root:x:0:\nadm:x:4:alice,bob\n"))
	f.Add([]byte(":::\n:x:0:\na:b:4294967296:\na:b:00:c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for gid, name := range parseGroup(text) {
			if name == "" {
				t.Fatalf("group %d without a name", gid)
			}
		}
	})
}
