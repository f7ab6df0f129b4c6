package install

//go:generate sh -c "clang --version | head -n 1 > bpf/CLANG"
//go:generate go tool bpf2go -target bpfel -output-stem programs -no-global-types -cflags "-O2 -g -Wall -Werror -mcpu=v3" programs bpf/capability.bpf.c
