// Package servicemap finds the service that a destination belongs to.
//
// Endpoints maps an address, port and protocol to a number. Map maps a destination to the id of its
// service: the service of that very port if there is one, else the first range that contains the
// port, else the service of any port. Both are built once and only read afterwards; look-ups do not
// allocate.
package servicemap
