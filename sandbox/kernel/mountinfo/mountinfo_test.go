package mountinfo

import (
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLine(t *testing.T) {
	tests := []struct {
		name, line string
		want       Mount
	}{
		{
			"plain", "36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw,errors=continue",
			Mount{ID: 36, Parent: 35, Major: 98, Root: "/mnt1", Point: "/mnt2", FSType: "ext3",
				Source: "/dev/root", SuperOptions: "rw,errors=continue"},
		},
		{
			"optional fields", "36 35 0:7 / /m rw shared:1 master:2 propagate_from:3 unbindable - tmpfs none rw",
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/", Point: "/m", FSType: "tmpfs", Source: "none",
				SuperOptions: "rw"},
		},
		{
			"escapes", `36 35 0:7 /a\040b /c\011d\134e\012f\043 rw - fuse.x\040y src\040z rw,lowerdir=/l\040m`,
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/a b", Point: "/c\td\\e\nf#", FSType: "fuse.x y",
				Source: "src z", SuperOptions: "rw,lowerdir=/l m"},
		},
		{
			"empty source", "36 35 0:7 / /m rw - tmpfs  rw",
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/", Point: "/m", FSType: "tmpfs", SuperOptions: "rw"},
		},
		{
			"deleted source", "36 35 0:7 /x//deleted /m rw - tmpfs t rw",
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/x", Point: "/m", FSType: "tmpfs", Source: "t",
				SuperOptions: "rw", Deleted: true},
		},
		{
			"read-only mount", "36 35 0:7 / /m ro,nosuid - tmpfs t rw",
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/", Point: "/m", FSType: "tmpfs", Source: "t",
				SuperOptions: "rw", ReadOnly: true},
		},
		{
			"read-only file system", "36 35 0:7 / /m rw - squashfs t ro,errors=continue",
			Mount{ID: 36, Parent: 35, Minor: 7, Root: "/", Point: "/m", FSType: "squashfs", Source: "t",
				SuperOptions: "ro,errors=continue", ReadOnly: true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseLine(tt.line)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{
		"", "\n", "36 35 0:7 / /m rw", "36 35 0:7 / /m rw - tmpfs t", "x 35 0:7 / /m rw - tmpfs t rw",
		"36 35 0 / /m rw - tmpfs t rw", "36 35 0:7 / - tmpfs t rw",
	} {
		if m, err := Parse(text); err == nil || m != nil {
			t.Errorf("%q gave %+v, %v", text, m, err)
		}
	}
	if _, err := Parse(""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("empty: %v", err)
	}
}

// A line may be as long as an overlay's layers have it.
func TestParseLong(t *testing.T) {
	layers := strings.Repeat("lowerdir+=/var/lib/layer,", 1<<14)
	mounts, err := Parse("36 35 0:7 / /m rw - overlay o " + layers + "rw\n")
	if err != nil || len(mounts) != 1 || len(mounts[0].SuperOptions) != len(layers)+2 {
		t.Errorf("%d mounts, %v", len(mounts), err)
	}
}

func TestFind(t *testing.T) {
	const text = "3 35 0:7 / /three rw - tmpfs t rw\n36 35 0:7 / /m rw - tmpfs t rw\n361 35 0:7 / /n rw " +
		"- tmpfs t rw\n5 nonsense\n"
	for id, want := range map[uint64]string{3: "/three", 36: "/m", 361: "/n", 6: "", 35: "", 5: ""} {
		if m, found := Find(text, id); m.Point != want || found != (want != "") {
			t.Errorf("mount %d is on %q, %v; want %q", id, m.Point, found, want)
		}
	}
}

// TestRead: the table shows what the kernel says of the root directory.
func TestRead(t *testing.T) {
	mounts, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		t.Skipf("statx(2) names no mounts (Linux 5.8): %v", err)
	}
	for i := range mounts {
		if uint64(mounts[i].ID) == st.Mnt_id {
			if mounts[i].Point != "/" {
				t.Errorf("the root directory is on %+v", mounts[i])
			}
			return
		}
	}
	t.Errorf("no mount has the number %d, that of the root directory", st.Mnt_id)
}

// FuzzParse holds that text of any content gives an error, or as many mounts as lines.
func FuzzParse(f *testing.F) {
	f.Add("1 1 0:1 / / rw - tmpfs none rw\n2 1 0:2 /a\\040b /a rw master:1 - proc proc ro")
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := Parse(text)
		if (err == nil) != (len(mounts) > 0) {
			t.Errorf("%d mounts and %v", len(mounts), err)
		}
		if lines := strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1; err == nil && len(mounts) != lines {
			t.Errorf("%d mounts of %d lines", len(mounts), lines)
		}
	})
}
