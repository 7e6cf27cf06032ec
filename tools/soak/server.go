package main

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// greetingLen is the length of the line that a server sends first: its word and its name.
const greetingLen = 24

// greetingWord begins the line. Health checks expect it.
const greetingWord = "soak "

// serverReady is in the line that a server prints when it listens.
const serverReady = "soak server ready"

// serverIdle is how long a server waits for more on a connection. It is longer than any pause of a
// client; what waits longer lost its client when it was cut off.
const serverIdle = 3 * time.Minute

// greeting returns the line.
func greeting(name string) string { return fmt.Sprintf("%-*s\n", greetingLen-1, greetingWord+name) }

// serve says its name on each connection to a port and then echoes, until it is killed.
func serve(name, port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println(serverReady)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err == nil {
			go echo(c, greeting(name))
		}
	}
}

// echo ends with the connection; the client checks what it got, so errors need no report here.
func echo(c net.Conn, first string) {
	defer c.Close()
	if _, err := c.Write([]byte(first)); err != nil {
		return
	}
	for buffer := make([]byte, 8<<10); ; {
		if c.SetDeadline(time.Now().Add(serverIdle)) != nil {
			return
		}
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}
