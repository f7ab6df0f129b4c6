// Web is a service in Go, which answers by HTTP on port 8091 of this machine.
package main

import (
	"fmt"
	"log"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "answered") })
	log.Fatal(http.ListenAndServe("127.0.0.1:8091", nil))
}
