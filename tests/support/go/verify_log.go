// SPDX-License-Identifier: Apache-2.0

// Verifies an exported log with golang.org/x/mod/sumdb/{note,tlog}, of which Weir uses nothing:
//
//	go run verify_log.go VKEY BASE
//
// BASE is a URL that serves C2SP tlog-tiles. It checks the signed checkpoint, fetches tiles, reads every entry, and
// checks each one's inclusion in the signed tree; it prints the number of entries.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type reader struct{ base string }

func (r reader) Height() int { return 8 }

func (r reader) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		// sumdb names a tile tile/HEIGHT/LEVEL/…; tlog-tiles leaves the height out.
		data, err := get(r.base + "/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func get(url string) ([]byte, error) {
	reply, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", url, reply.Status)
	}
	return io.ReadAll(reply.Body)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	verifier := must(note.NewVerifier(os.Args[1]))
	base := strings.TrimSuffix(os.Args[2], "/")
	signed := must(note.Open(must(get(base+"/checkpoint")), note.VerifierList(verifier)))
	lines := strings.Split(signed.Text, "\n")
	size := must(strconv.ParseInt(lines[1], 10, 64))
	var root tlog.Hash
	copy(root[:], must(base64.StdEncoding.DecodeString(lines[2])))
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, reader{base})
	for index := int64(0); index < size; {
		bundle := tlog.Tile{H: 8, L: 0, N: index / 256, W: int(min(256, size-index))}
		path := strings.Replace(bundle.Path(), "tile/8/0/", "tile/entries/", 1)
		data := must(get(base + "/" + path))
		for n := 0; n < bundle.W; n++ {
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			proof := must(tlog.ProveRecord(size, index, hashes))
			if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)); err != nil {
				log.Fatalf("entry %d: %v", index, err)
			}
			index++
		}
		if len(data) != 0 {
			log.Fatalf("%s: bytes behind the last entry", path)
		}
	}
	fmt.Println(size)
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
