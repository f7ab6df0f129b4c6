package landlock

import (
	"os"
	"strings"
	"testing"
)

// FuzzParseMountTable holds that a mount table of any content gives an error, or a
// table that answers every question about its own mounts.
func FuzzParseMountTable(f *testing.F) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(own))
	f.Add("1 1 0:1 / / rw - tmpfs none rw\n2 1 0:2 /a\\040b /a rw master:1 - proc proc ro\n")
	f.Add("1 2 0:1 / / rw - tmpfs none rw\n2 1 0:2 / / rw - proc proc rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseMountTable(strings.NewReader(text))
		if err != nil {
			if table != nil {
				t.Error("an error and a table")
			}
			return
		}
		for i := range table.mounts {
			m := &table.mounts[i]
			table.at(m.Point)
			table.Below(m.Point)
			table.visible(m)
			if p, ok := table.locate(m.Point); ok {
				table.views(p, false)
			}
		}
		HiddenMounts(table)
	})
}
