package landlock

import (
	"fmt"
	"slices"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestDeviceTables: the lists of devices a second time, so that none comes, goes or changes by
// mistake.
func TestDeviceTables(t *testing.T) {
	want := []string{"/null 1:3-3", "/zero 1:5-5", "/full 1:7-7", "/random 1:8-8", "/urandom 1:9-9", "/tty 5:0-0",
		"/ptmx 5:2-2", "/video* 81:0-1048575", "/v4l-* 81:0-1048575", "/vbi* 81:0-1048575", "/radio* 81:0-1048575",
		"dri/* 226:0-1048575", "snd/* 116:0-1048575", "pts/* 136:0-1048575", "/console 136:0-1048575"}
	var got []string
	for _, r := range deviceRules {
		got = append(got, fmt.Sprintf("%s/%s %d:%d-%d", r.dir, r.name, r.major, r.first, r.last))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the devices are %q", got)
	}
	basic := []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
	if !slices.Equal(basicDevices, basic) {
		t.Errorf("the basic devices are %q", basicDevices)
	}
	if whole := []string{"pts", "shm", "mqueue", "hugepages"}; !slices.Equal(wholeDeviceDirs, whole) {
		t.Errorf("the directories are %q", wholeDeviceDirs)
	}
	for major := range uint32(300) {
		terminal := slices.Contains([]uint32{4, 166, 188, 204, 229}, major)
		if isTerminal(unix.Mkdev(major, 7)) != terminal {
			t.Errorf("devices of major %d are terminals: %t", major, !terminal)
		}
	}
}

// TestUsualObjects: what every system has is carved where nothing is mounted, too.
func TestUsualObjects(t *testing.T) {
	c := table(t, "20 1 8:1 / / rw - ext4 d rw\n").carve(carveDeny)
	for path, kind := range map[string]kind{"/proc": excluded, "/dev": devices, "/sys/kernel/tracing": excluded,
		"/sys/kernel/debug": excluded, "/sys/fs/bpf": excluded} {
		if o := c.objects[path]; o == nil || o.kind != kind {
			t.Errorf("%s: %+v", path, o)
		}
	}
}

// TestAddStricter: of two objects on one path the stricter stays, in either order, and with
// the rights that both leave.
func TestAddStricter(t *testing.T) {
	add := func(objects ...object) object {
		c := &carving{objects: map[string]*object{}}
		for _, o := range objects {
			o.path = "/a"
			c.add(o)
		}
		return *c.objects["/a"]
	}
	closed := object{kind: excluded, cause: "closed"}
	one, two := object{kind: limited, ceiling: ReadFile | ReadDir}, object{kind: limited, ceiling: ReadDir | Execute}
	node := object{kind: devices}
	for _, test := range []struct {
		objects []object
		want    object
	}{
		{[]object{closed, one}, closed}, {[]object{one, closed}, closed}, {[]object{node, closed}, closed},
		{[]object{closed, node}, closed}, {[]object{one, node}, node}, {[]object{node, one}, node},
		{[]object{one, two}, object{kind: limited, ceiling: ReadDir}},
		{[]object{two, one}, object{kind: limited, ceiling: ReadDir}},
	} {
		if got := add(test.objects...); got.kind != test.want.kind || got.ceiling != test.want.ceiling ||
			got.cause != test.want.cause {
			t.Errorf("%+v: %+v", test.objects, got)
		}
	}
	expected, other := one, one
	expected.expected, expected.mounted, expected.system, expected.names = true, true, true, true
	for _, merged := range []object{add(expected, other), add(other, expected)} {
		if !merged.mounted || merged.system || merged.names {
			t.Errorf("merged to %+v", merged)
		}
	}
	if merged := add(expected, closed); !merged.expected || !merged.mounted {
		t.Errorf("a stricter one lost what was known: %+v", merged)
	}
	denied := &denial{}
	if first, second := add(object{kind: excluded, denied: denied}, closed), add(closed, object{kind: excluded,
		denied: denied}); first.denied != denied || second.denied != denied {
		t.Errorf("a denied path is forgotten: %+v, %+v", first, second)
	}
}

// TestStricterThan: of two objects on one inode the stricter is kept.
func TestStricterThan(t *testing.T) {
	closed, node := &object{kind: excluded}, &object{kind: devices}
	more, fewer := &object{kind: limited, ceiling: ReadFile | ReadDir}, &object{kind: limited, ceiling: ReadDir}
	for _, test := range []struct {
		o, other *object
		want     bool
	}{
		{more, nil, true}, {closed, more, true}, {more, closed, false}, {closed, node, true}, {node, closed, false},
		{node, more, true}, {more, node, false}, {fewer, more, true}, {more, fewer, false},
	} {
		if test.o.stricterThan(test.other) != test.want {
			t.Errorf("%+v is stricter than %+v: %t", test.o, test.other, !test.want)
		}
	}
}

// TestShadows: a directory on which something is mounted is also reached where another mount
// shows it; not where it is covered, deleted or not below.
func TestShadows(t *testing.T) {
	table := table(t, `20 1 8:1 / / rw - ext4 d rw
21 20 8:1 /srv /other rw - ext4 d rw
22 20 0:40 / /srv/a rw - tmpfs t rw
23 22 0:41 / /srv/a rw - tmpfs t rw
24 20 8:1 /gone//deleted /lost rw - ext4 d rw
25 24 0:42 / /lost/x rw - tmpfs t rw
26 21 0:43 / /elsewhere rw - tmpfs t rw
`)
	for id, want := range map[int][]string{22: {"/other/a"}, 23: nil, 25: nil, 26: nil} {
		m := table.byID(id)
		got := table.shadows(m, table.byID(m.Parent))
		if !slices.Equal(got, want) {
			t.Errorf("mount %d is also reached at %q, want %q", id, got, want)
		}
	}
	for _, shown := range []struct {
		o    object
		also bool
	}{
		{object{path: "/srv/a", kind: excluded}, true},
		{object{path: "/srv/a", kind: excluded, expected: true}, false},
		{object{path: "/srv/a", kind: excluded, expected: true, denied: &denial{rule: policy.DeniedPath{}}}, true},
	} {
		c := &carving{objects: map[string]*object{"/srv/a": &shown.o}}
		c.addShadows(table, fsABI5)
		if (c.objects["/other/a"] != nil) != shown.also {
			t.Errorf("%+v: also at /other/a: %t", shown.o, !shown.also)
		}
	}
}
