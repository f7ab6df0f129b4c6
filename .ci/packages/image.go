package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageName is what the image is called in an engine that loads the archive.
const imageName = "memjail"

// imageFiles are the files of the image: it has no C library and no shell, so what the
// image is good for is to be copied from, and to run memjail itself.
var imageFiles = []string{"usr/bin/memjail", "usr/bin/memjail-oci", "usr/share/doc/memjail/copyright"}

// image makes the image of an architecture from the tree that packages install.
func (b *builder) image(tree, arch string) (v1.Image, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, dir := range []string{"usr/", "usr/bin/", "usr/share/", "usr/share/doc/", "usr/share/doc/memjail/"} {
		h := tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: b.time, Format: tar.FormatPAX}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	// The starting point of a container's /tmp, which memjail's private directories need.
	h := tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: b.time, Format: tar.FormatPAX}
	if err := w.WriteHeader(&h); err != nil {
		return nil, err
	}
	for _, file := range imageFiles {
		if err := b.addFile(w, tree, file, file); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: b.time}, CreatedBy: "make packages"}})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, b.imageConfig(image, arch))
}

// imageConfig is the configuration: memjail is the entry point.
func (b *builder) imageConfig(image v1.Image, arch string) *v1.ConfigFile {
	c, err := image.ConfigFile()
	if err != nil {
		panic(err) // it was made here, in memory
	}
	c = c.DeepCopy()
	c.Architecture, c.OS, c.Created = arch, "linux", v1.Time{Time: b.time}
	if arch == "arm64" {
		c.Variant = "v8"
	}
	c.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/memjail"}, Cmd: []string{"--help"}, WorkingDir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "memjail",
			"org.opencontainers.image.version":  b.version,
			"org.opencontainers.image.licenses": "MIT",
			"org.opencontainers.image.source":   "https://github.com/memjail/memjail",
		},
	}
	return c
}

// images writes the images of all architectures as one archive in the OCI image layout.
func (b *builder) images() (err error) {
	dir, err := os.MkdirTemp("", "memjail-image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var index v1.ImageIndex = empty.Index
	index = mutate.IndexMediaType(index, types.OCIImageIndex)
	for _, i := range b.built {
		config, err := i.ConfigFile()
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: i,
			Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": b.version,
		"io.containerd.image.name":          "docker.io/library/" + imageName + ":" + b.version,
	}))
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(b.out, "memjail-"+b.version+"-oci.tar"))
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = walk(dir, func(file string, _ fs.FileInfo) error {
		return errors.Join(os.Chmod(filepath.Join(dir, file), 0o644), b.addFile(w, dir, file, file))
	})
	return errors.Join(err, w.Close(), f.Close())
}
