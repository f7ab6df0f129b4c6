// Package abspath computes with clean absolute paths, as text: no file system is asked.
package abspath

import "strings"

// Within reports whether path is dir or lies below it.
func Within(dir, path string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// Relative returns the rest of path, which is [Within] dir, without a leading slash; it
// is empty for dir itself.
func Relative(dir, path string) string {
	if dir == "/" {
		dir = ""
	}
	return strings.TrimPrefix(path[len(dir):], "/")
}

// Join is the path of rest, as [Relative] returns it, below dir.
func Join(dir, rest string) string {
	switch {
	case rest == "":
		return dir
	case dir == "/":
		return "/" + rest
	}
	return dir + "/" + rest
}

// Parent is the directory that path lies in; that of "/" is "/".
func Parent(path string) string {
	return path[:max(1, strings.LastIndexByte(path, '/'))]
}
