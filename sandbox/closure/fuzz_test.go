package closure

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"
)

// FuzzLoad holds that a program file of any content gives an error or names that
// are no longer than a path can be.
func FuzzLoad(f *testing.F) {
	for _, path := range []string{"/bin/true", "/bin/sh"} {
		if program, err := os.ReadFile(path); err == nil {
			f.Add(program[:min(len(program), 1<<16)])
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		o, err := load(bytes.NewReader(file))
		if err != nil {
			return
		}
		names, err := o.names(elf.DT_NEEDED, elf.DT_RUNPATH, elf.DT_RPATH)
		if err != nil {
			return
		}
		for _, name := range append(names, o.interp) {
			if len(name) >= longest {
				t.Fatalf("a name of %d bytes", len(name))
			}
		}
	})
}

// FuzzLoaderCache holds that a loader's cache of any content names nothing that is
// not in it.
func FuzzLoaderCache(f *testing.F) {
	if cache, err := os.ReadFile(cachePath); err == nil {
		f.Add(cache[:min(len(cache), 1<<14)])
	}
	one := binary.NativeEndian.AppendUint32([]byte(cacheMagic), 1)
	one = append(one, make([]byte, cacheHeader+cacheEntry-len(one))...)
	binary.NativeEndian.PutUint32(one[cacheHeader+4:], uint32(len(one)))
	binary.NativeEndian.PutUint32(one[cacheHeader+8:], uint32(len(one)+3))
	one = append(one, "a.so\x00/lib/a.so\x00"...)
	f.Add(one)
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, files := range parseLoaderCache(data).paths {
			for _, file := range append(files, name) {
				if file == "" || !bytes.Contains(data, append([]byte(file), 0)) {
					t.Fatalf("%q is not in the cache", file)
				}
			}
		}
	})
}
