package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxSize limits a file: what MaxServices and MaxBackends need.
const maxSize = 32 << 20

// Load reads and checks a file. The error is a Problems with all errors; the Config is then nil.
// The []Problem are warnings, with or without an error, sorted by line. host is the machine that
// the file is for; nil leaves out the checks that need it.
func Load(path string, host *Host) (*Config, []Problem, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, Problems{{File: path, Text: err.Error()}}
	}
	return Parse(path, data, host)
}

// Parse is Load for the content of a file. name is the file's name in messages.
func Parse(name string, data []byte, host *Host) (*Config, []Problem, error) {
	r := &report{file: name}
	root, values := r.decode(string(data))
	if values == nil {
		return r.result(nil)
	}
	cfg := r.config(root, values, host)
	cfg.Text = string(data)
	return r.result(cfg)
}

// readFile reads a regular file and checks that it was not changed meanwhile.
func readFile(path string) ([]byte, error) {
	// Stat comes first because open would block on a pipe without a writer.
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, errors.New("is a directory; give the TOML file in it")
	} else if err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plainError(err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, plainError(err)
	}
	if before.Size() > maxSize {
		return nil, fmt.Errorf("has %d bytes; allowed: at most %d (32 MiB)", before.Size(), maxSize)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, plainError(err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, plainError(err)
	}
	if int64(len(data)) != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, errors.New("was changed while it was read; write a new file, rename it over this one, and try again")
	}
	return data, nil
}

// plainError removes the operation and path from an error: a Problem has the path already.
func plainError(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("cannot be read: %w", at.Err)
	}
	return err
}

// decode returns the values of a text and their places. values is nil if the text is not TOML.
func (r *report) decode(text string) (root *place, values map[string]any) {
	if n := strings.IndexByte(text, 0); n >= 0 {
		r.failLine(lineAt(text, n), "", "has a zero byte; a configuration is UTF-8 text")
		return nil, nil
	}
	if !utf8.ValidString(text) {
		n := invalidUTF8(text)
		r.failLine(lineAt(text, n), "", fmt.Sprintf("has byte 0x%02x, which is not UTF-8; a configuration is UTF-8 text", text[n]))
		return nil, nil
	}
	root, deep := index(text)
	if deep > 0 {
		r.failLine(deep, "", depthText)
		return nil, nil
	}
	values, err := decodeTOML(text)
	if err != nil {
		r.failSyntax(text, err)
		return nil, nil
	}
	return root, values
}

// decodeTOML is toml.Decode without panics: a file must never end a daemon that carries traffic.
func decodeTOML(text string) (values map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the TOML library failed on this file: %v", p)
		}
	}()
	values = map[string]any{}
	_, err = toml.Decode(text, &values)
	return values, err
}

func (r *report) failLine(line int, key, text string) {
	r.errors.add(key, Problem{File: r.file, Line: line, Key: key, Text: text})
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8.
func invalidUTF8(text string) int {
	for i, c := range text {
		if c == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i
			}
		}
	}
	return len(text)
}
