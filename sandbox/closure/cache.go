package closure

import (
	"bytes"
	"encoding/binary"
	"os"
)

// cachePath is the loader's cache, which ldconfig(8) writes.
const cachePath = "/etc/ld.so.cache"

// loaderCache is the content of the cache: the paths of each library, by its name.
type loaderCache struct {
	paths map[string][]string
}

func (c *loaderCache) find(name string) []string { return c.paths[name] }

// The format, in the machine's byte order, is that of dl-cache.h of glibc: a
// header of 48 bytes whose fifth word is the number of entries, then entries of 24
// bytes, each with the offsets of two strings from the header's beginning.
const (
	cacheMagic  = "glibc-ld.so.cache1.1"
	cacheHeader = 48
	cacheEntry  = 24
)

// readLoaderCache reads a cache. One that is missing or odd is empty: the loader
// goes on without it, too.
func readLoaderCache(path string) *loaderCache {
	data, err := os.ReadFile(path)
	if err != nil {
		data = nil
	}
	return parseLoaderCache(data)
}

func parseLoaderCache(data []byte) *loaderCache {
	c := &loaderCache{paths: map[string][]string{}}
	// An older format may stand before this one.
	if at := bytes.Index(data, []byte(cacheMagic)); at >= 0 {
		data = data[at:]
	} else {
		return c
	}
	if len(data) < cacheHeader {
		return c
	}
	count := int(binary.NativeEndian.Uint32(data[len(cacheMagic):]))
	if count > (len(data)-cacheHeader)/cacheEntry {
		return c
	}
	for i := range count {
		entry := data[cacheHeader+i*cacheEntry:]
		name := textAt(data, binary.NativeEndian.Uint32(entry[4:]))
		file := textAt(data, binary.NativeEndian.Uint32(entry[8:]))
		if name != "" && file != "" {
			c.paths[name] = append(c.paths[name], file)
		}
	}
	return c
}

func textAt(data []byte, offset uint32) string {
	if int64(offset) >= int64(len(data)) {
		return ""
	}
	text, _, ok := bytes.Cut(data[offset:], []byte{0})
	if !ok {
		return ""
	}
	return string(text)
}
