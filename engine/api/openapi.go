package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// tokenOnly is the Security of an operation that changes something, or tells what not everybody may
// know.
var tokenOnly = []map[string][]string{{"token": {}}}

// documentVersion is that of the API, not of the daemon: paths begin with its first number.
const documentVersion = "1.0.0"

// documentConfig has huma serve nothing by itself: its pages load scripts from elsewhere, and its
// document is made at the first request, by two requests at once too.
func documentConfig() huma.Config {
	config := huma.DefaultConfig("Sluice", documentVersion)
	config.CreateHooks = nil // no $schema in answers
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.RejectUnknownQueryParameters = true
	config.Info.Description = "State, numbers and orders of a running sluice daemon. Everything is open on the control socket. " +
		"On the network reads are open or need the token, as [api] reads says, and what changes something always needs it."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The content of [api] token_file. Not needed on the control socket."},
	}
	return config
}

// serveDocument offers the OpenAPI document of all endpoints that are there by now. It holds
// nothing about this daemon.
func (s *Server) serveDocument() {
	openAnswers(s.api.OpenAPI())
	document, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		panic(err) // the types decide, so a test would have met it
	}
	s.HandleStatic("GET "+pathOpenAPI, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	}))
}

// openAnswers has the document say that answers may get more fields, which is how the API grows.
// What a request holds beyond its fields stays an error.
func openAnswers(document *huma.OpenAPI) {
	requests := map[*huma.Schema]bool{}
	for _, item := range document.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil && op.RequestBody != nil {
				for _, media := range op.RequestBody.Content {
					reach(document, media.Schema, requests)
				}
			}
		}
	}
	for _, schema := range document.Components.Schemas.Map() {
		if closed, is := schema.AdditionalProperties.(bool); is && !closed && !requests[schema] {
			schema.AdditionalProperties = nil
		}
	}
}

// reach collects a schema and all that it is made of.
func reach(document *huma.OpenAPI, schema *huma.Schema, seen map[*huma.Schema]bool) {
	if schema != nil && schema.Ref != "" {
		schema = document.Components.Schemas.SchemaFromRef(schema.Ref)
	}
	if schema == nil || seen[schema] {
		return
	}
	seen[schema] = true
	reach(document, schema.Items, seen)
	for _, property := range schema.Properties {
		reach(document, property, seen)
	}
	if values, ok := schema.AdditionalProperties.(*huma.Schema); ok {
		reach(document, values, seen)
	}
	for _, some := range [][]*huma.Schema{schema.OneOf, schema.AnyOf, schema.AllOf} {
		for _, one := range some {
			reach(document, one, seen)
		}
	}
}

// Schema implements huma.SchemaProvider.
func (Port) Schema(huma.Registry) *huma.Schema {
	lowest, highest := 0.0, 65535.0
	return &huma.Schema{
		Description: "one port, a range or all; 0: the port that the client asked for",
		OneOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: &lowest, Maximum: &highest},
			{Type: huma.TypeString, Pattern: "^([0-9]+-[0-9]+|any)$", Examples: []any{"8000-8099", "any"}},
		},
	}
}

// mentionsToken says whether an operation is for those who have the token only.
func mentionsToken(op *huma.Operation) bool {
	return len(op.Security) > 0 || !strings.EqualFold(op.Method, http.MethodGet)
}
