package takeover

import (
	"encoding/binary"
	"fmt"
	"reflect"

	"sluice/pipeline/counter"
)

// words is memory of 64-bit words.
type words []byte

const wordBytes = 8

// take returns n words from the beginning, which are removed; nil if there are not so many.
func (w *words) take(n int) words {
	if len(*w) < n*wordBytes {
		return nil
	}
	taken := (*w)[:n*wordBytes]
	*w = (*w)[n*wordBytes:]
	return taken
}

// at returns the element number i of those that have n words each; nil if there is none.
func (w words) at(i, n int) words {
	if len(w) < (i+1)*n*wordBytes {
		return nil
	}
	return w[i*n*wordBytes:][:n*wordBytes]
}

// names returns the names of the words of a type: those of its fields, with the index in an array.
// Drops have the names of their reasons.
func names[T any]() []string {
	of := reflect.TypeFor[T]()
	all := make([]string, of.Size()/wordBytes)
	nameFields(all, of, 0, "")
	return all
}

func nameFields(all []string, of reflect.Type, offset uintptr, name string) {
	switch of.Kind() {
	case reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			nameFields(all, f.Type, offset+f.Offset, name+"."+f.Name)
		}
	case reflect.Array:
		for i := range of.Len() {
			element := fmt.Sprint(name, ".", i)
			if of == reflect.TypeOf(counter.Packets{}.Drops) {
				element = name + "." + counter.Reason(i).String()
			}
			nameFields(all, of.Elem(), offset+uintptr(i)*of.Elem().Size(), element)
		}
	default:
		all[offset/wordBytes] += name // two halves have one
	}
}

// reader reads values of a type from words that a former process has named.
type reader[T any] struct {
	to []int // place of each word in the type; -1: it has none
}

func readerOf[T any](former []string) reader[T] {
	place := make(map[string]int)
	for i, name := range names[T]() {
		place[name] = i
	}
	r := reader[T]{make([]int, len(former))}
	for i, name := range former {
		at, ok := place[name]
		if !ok {
			at = -1
		}
		r.to[i] = at
	}
	return r
}

// read returns a value; the zero value if the words are not complete. What the former process did
// not count is 0.
func (r reader[T]) read(from words) (value T) {
	if len(from) != len(r.to)*wordBytes {
		return value
	}
	all := wordsOf(&value)
	for i, at := range r.to {
		if at >= 0 {
			all[at] = binary.NativeEndian.Uint64(from[i*wordBytes:])
		}
	}
	return value
}
