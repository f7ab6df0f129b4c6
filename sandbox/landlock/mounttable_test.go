package landlock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// plain is the table of an ordinary system.
const plain = `22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=10k,mode=755
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
`

func table(t *testing.T, lines string) *MountTable {
	t.Helper()
	m, err := ParseMountTable(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAt(t *testing.T) {
	const lines = plain + `40 27 0:40 / /a rw - tmpfs t rw
41 40 0:41 / /a/b rw - tmpfs t rw
42 40 0:42 / /a rw - tmpfs over rw
43 42 0:43 / /a/c rw - tmpfs t rw
44 43 0:44 / /a/c rw - tmpfs over rw
`
	m := table(t, lines)
	for path, want := range map[string]int{
		"/": 27, "/x": 27, "/proc": 22, "/proc/self": 22, "/process": 27, "/a": 42, "/a/b": 42, "/a/b/c": 42,
		"/a/c": 44, "/a/c/d": 44, "/sys/fs/cgroup/x": 31, "/sys/fs": 23,
	} {
		if got := m.at(path); got == nil || got.ID != want {
			t.Errorf("at(%q) = %+v, want mount %d", path, got, want)
		}
	}
	if hidden := m.byID(41); m.visible(hidden) {
		t.Error("/a/b is hidden below /a and counts as visible")
	}
}

// A program that was chrooted into an ordinary directory sees no mount on "/".
func TestAtWithoutRoot(t *testing.T) {
	m := table(t, "22 27 0:21 / /proc rw - proc proc rw\n30 22 0:9 / /proc/sys/fs/binfmt_misc rw - binfmt_misc b rw\n")
	if got := m.at("/etc"); got != nil {
		t.Errorf("at(/etc) = %+v", got)
	}
	if got := m.at("/proc/sys/fs/binfmt_misc"); got == nil || got.ID != 30 {
		t.Errorf("at(binfmt_misc) = %+v", got)
	}
	if _, ok := m.locate("/etc"); ok {
		t.Error("the place of /etc is known")
	}
}

func TestViews(t *testing.T) {
	const lines = plain + `40 27 254:0 / /second rw - ext4 /dev/vda rw
41 27 254:0 /usr/lib /lib-bind rw - ext4 /dev/vda rw
42 27 254:0 /usr /ro-bind ro - ext4 /dev/vda rw
43 27 254:0 /usr//deleted /gone rw - ext4 /dev/vda rw
44 27 254:0 /usrlocal /other rw - ext4 /dev/vda rw
45 40 0:50 / /second/usr rw - tmpfs t rw
46 27 254:1 / /disk rw - ext4 /dev/vdb rw
`
	m := table(t, lines)
	p, ok := m.locate("/usr")
	if !ok {
		t.Fatal("/usr has no place")
	}
	got := m.views(p, false)
	want := []string{"/usr", "/lib-bind"} // /second/usr is hidden by a tmpfs
	if !slices.Equal(got, want) {
		t.Errorf("views are %q, want %q", got, want)
	}
}

func TestHiddenMounts(t *testing.T) {
	const lines = plain + `50 27 0:21 / /jail/proc rw - proc proc rw
51 27 0:60 / /covered rw - proc proc rw
52 51 0:61 / /covered rw - tmpfs t rw
53 23 0:62 / /sys/kernel/tracing rw - tracefs t rw
54 27 0:62 / /trace rw - tracefs t rw
55 22 0:63 / /proc/sys/fs/binfmt_misc rw - binfmt_misc b rw
56 27 0:64 / /process rw - proc proc rw
`
	var got []string
	for _, m := range HiddenMounts(table(t, lines)) {
		got = append(got, m.Point)
	}
	if want := []string{"/jail/proc", "/trace", "/process"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOverlayLayers(t *testing.T) {
	const options = `rw,lowerdir=/l\:1:/l2::relative:/data,upperdir=/up,workdir=/wo\\rk,lowerdir+=/l3,index=off`
	want := []overlayLayer{{"/l:1", false}, {"/l2", false}, {"/data", false}, {"/up", false}, {`/wo\rk`, true},
		{"/l3", false}}
	if got := overlayLayers(options); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRelativeLayer(t *testing.T) {
	for options, want := range map[string]string{
		"rw,lowerdir=/a:/b,upperdir=/c,workdir=/d": "", "rw,lowerdir=/a:b": "b", "rw,upperdir=up": "up",
		"rw,lowerdir=/a::/b": "", "lowerdir+=x\\,y": "x,y", "": "",
	} {
		if have := relativeLayer(options); have != want {
			t.Errorf("%q: %q, want %q", options, have, want)
		}
	}
}

// What a request asks for, in the four shapes that the rows of carveTests name.
var (
	carveDeny    = carveOptions{handle: fsABI5, resolve: func(p string) (string, bool) { return p, true }}
	carveNoWrite = carveOptions{access: policy.AccessNoWrite, handle: carveDeny.handle, resolve: carveDeny.resolve}
	carveAllow   = carveOptions{access: policy.AccessAllow, handle: carveDeny.handle, resolve: carveDeny.resolve}
	carveCode    = carveOptions{handle: carveDeny.handle, resolve: carveDeny.resolve, code: []string{"/usr"}}
)

// carveUsual are the objects of every system; without the first where procfs is
// opened.
var carveUsual = []string{
	"/proc excluded", "/dev devices", "/sys/fs/bpf excluded", "/sys/kernel/config excluded",
	"/sys/kernel/debug excluded",
	"/sys/kernel/security excluded", "/sys/kernel/tracing excluded", "/sys limited read_file|read_dir",
}

const codeText = "limited execute|read_file|read_dir|ioctl_dev"

// carveTests has one row for each situation of the mount table: which trees are
// not granted in full, beside those of every system, and what the directories
// above them bear.
var carveTests = []struct {
	name      string
	lines     string
	options   carveOptions
	objects   []string
	base      []string
	ancestors map[string]Rights // beside "/"
	reexposed []string
}{
	{name: "plain", options: carveDeny, base: carveUsual},
	{
		name: "second procfs and a bind of a file", options: carveDeny, base: carveUsual,
		lines:     "50 27 0:21 / /a/b/proc rw - proc proc rw\n51 27 0:21 /1/mem /f rw - proc proc rw\n",
		objects:   []string{"/a/b/proc excluded", "/f excluded"},
		ancestors: map[string]Rights{"/a": ReadDir, "/a/b": ReadDir},
	},
	{
		name: "bind of the directory above a procfs", options: carveDeny, base: carveUsual,
		lines:   "50 27 0:21 / /a/b/proc rw - proc proc rw\n51 27 254:0 /a /v rw - ext4 /dev/vda rw\n",
		objects: []string{"/a/b/proc excluded", "/v/b/proc " + codeText},
		ancestors: map[string]Rights{"/a": ReadDir, "/a/b": ReadDir, "/v": readRights | Execute,
			"/v/b": readRights | Execute},
	},
	{
		name: "files over procfs", options: carveDeny, base: carveUsual,
		lines: "50 22 0:70 /cpuinfo /proc/cpuinfo rw - fuse.lxcfs lxcfs rw\n51 22 0:71 / " +
			"/proc/sys/fs/binfmt_misc rw - autofs s rw\n52 22 0:21 /sys /proc/sys ro - proc proc rw\n",
		reexposed: []string{"/proc/cpuinfo"},
	},
	{
		name: "procfs inside an island", options: carveDeny, base: carveUsual,
		lines:     "50 22 0:70 / /proc/scsi rw - tmpfs t rw\n51 50 0:21 / /proc/scsi/p rw - proc proc rw\n",
		objects:   []string{"/proc/scsi/p excluded"},
		ancestors: map[string]Rights{"/proc": ReadDir, "/proc/scsi": ReadDir},
		reexposed: []string{"/proc/scsi"},
	},
	{
		name: "no-write", options: carveNoWrite, base: carveUsual[1:],
		lines: "50 27 0:21 / /b rw - proc proc rw\n51 27 0:90 / /p rw - proc proc rw\n52 22 0:63 / " +
			"/proc/sys/fs/binfmt_misc rw - binfmt_misc b rw\n",
		objects: []string{"/b limited read_file|read_dir", "/p excluded", "/proc limited read_file|read_dir"},
	},
	{
		name: "allow", options: carveAllow, base: carveUsual[1:],
		lines: "51 27 0:90 / /p rw - proc proc rw\n52 27 0:91 / /t rw - tracefs t rw\n",
		objects: []string{"/p limited " + (fsABI5 &^ makeNode).String(), "/proc limited " +
			(fsABI5 &^ makeNode).String(), "/t excluded"},
	},
	{name: "code", options: carveCode, base: carveUsual, objects: []string{"/usr " + codeText}},
	{
		name: "code shown elsewhere", options: carveCode, base: carveUsual,
		lines: "50 27 254:0 /usr/lib /j/lib rw - ext4 /dev/vda rw\n51 27 254:0 / /r rw - ext4 " +
			"/dev/vda rw\n52 27 254:0 /usr /ro ro - ext4 /dev/vda rw\n",
		objects: []string{"/usr " + codeText, "/j/lib " + codeText, "/r/usr " + codeText, "/r/j/lib " +
			codeText, "/r/r " + codeText},
		ancestors: map[string]Rights{"/j": readRights | Execute, "/r": readRights | Execute,
			"/r/j": readRights | Execute},
	},
	{
		name: "a mount inside, shown elsewhere", options: carveCode, base: carveUsual,
		lines:   "50 27 0:70 / /usr/local rw - xfs x rw\n51 27 0:70 /bin /x rw - xfs x rw\n",
		objects: []string{"/usr " + codeText, "/x " + codeText},
	},
	{
		name: "overlay", options: carveCode, base: carveUsual,
		lines: "50 27 0:70 / /usr rw - overlay o rw,lowerdir=/l1:/l2,upperdir=/o/u,workdir=/o/w\n51 " +
			"27 254:0 /o /again rw - ext4 /dev/vda rw\n",
		objects: []string{"/usr " + codeText, "/l1 " + codeText, "/l2 " + codeText, "/o/u " + codeText,
			"/o/w " + codeText, "/again/u " + codeText, "/again/w " + codeText},
		ancestors: map[string]Rights{"/o": readRights | Execute, "/again": readRights | Execute},
	},
	{
		name: "device file systems", options: carveDeny, base: carveUsual,
		lines: "50 27 0:6 / /j/dev rw - devtmpfs d rw\n51 27 0:70 / /k/dev rw - tmpfs d rw\n52 27 " +
			"0:71 / /develop rw - tmpfs d rw\n",
		objects:   []string{"/j/dev devices", "/k/dev devices"},
		ancestors: map[string]Rights{"/j": ReadDir, "/k": ReadDir},
	},
	{
		name: "covered", options: carveDeny, base: carveUsual,
		lines: "50 27 0:21 / /a rw - proc proc rw\n51 50 0:70 / /a rw - tmpfs t rw\n",
	},
	{
		name: "cgroups", options: carveDeny, base: carveUsual,
		lines:     "50 27 0:28 / /cg rw - cgroup2 c rw\n51 27 0:80 / /j/sys rw - sysfs s rw\n",
		objects:   []string{"/cg limited read_file|read_dir", "/j/sys limited read_file|read_dir"},
		ancestors: map[string]Rights{"/j": readRights},
	},
}

func TestCarve(t *testing.T) {
	for _, tt := range carveTests {
		t.Run(tt.name, func(t *testing.T) {
			c := table(t, plain+tt.lines).carve(tt.options)
			var got []string
			for _, o := range c.sorted() {
				text := fmt.Sprintf("%s %s", o.path, []string{"limited", "devices", "excluded"}[o.kind])
				if o.kind == limited {
					text += " " + o.ceiling.String()
				}
				got = append(got, text)
			}
			want := slices.Concat(tt.base, tt.objects)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("objects are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			ancestors := map[string]Rights{"/": ReadDir, "/sys": ReadDir, "/sys/kernel": ReadDir, "/sys/fs": ReadDir}
			maps.Copy(ancestors, tt.ancestors)
			gotAncestors := map[string]Rights{}
			for path, e := range c.ancestors {
				gotAncestors[path] = e.ceiling
			}
			if !maps.Equal(gotAncestors, ancestors) {
				t.Errorf("ancestors are %v, want %v", gotAncestors, ancestors)
			}
			if !slices.Equal(c.reexposed, tt.reexposed) {
				t.Errorf("reexposed are %q, want %q", c.reexposed, tt.reexposed)
			}
		})
	}
}
