package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// tokenOnly is the Security of an operation that changes something or shows confidential data.
var tokenOnly = []map[string][]string{{"token": {}}}

// documentVersion is the version of the API, not of the daemon: paths begin with its first number.
const documentVersion = "1.0.0"

// documentConfig turns off what huma serves by itself: its pages load scripts from other servers,
// and it builds its document during the first request, with a data race between two requests.
func documentConfig() huma.Config {
	config := huma.DefaultConfig("Sluice", documentVersion)
	config.CreateHooks = nil // no $schema in answers
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.RejectUnknownQueryParameters = true
	config.Info.Description = "State, counters and changes of a running sluice daemon. On the control socket everything is allowed. " +
		"On the network reads are open or need the token, as configured by [api] reads; changes always need it."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The content of [api] token_file. Not needed on the control socket."},
	}
	return config
}

// serveDocument serves the OpenAPI document of all endpoints added so far. It has no data about
// this daemon.
func (s *Server) serveDocument() {
	openAnswers(s.api.OpenAPI())
	document, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		panic(err) // the types decide, so tests cover it
	}
	s.HandleStatic("GET "+pathOpenAPI, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	}))
}

// openAnswers declares in the document that answers may get more fields, because the API grows in
// this way. Unknown fields of a request remain an error.
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

// reach collects a schema and all that it refers to.
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
		Description: "one port, a range or all; 0: the client's destination port",
		OneOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: &lowest, Maximum: &highest},
			{Type: huma.TypeString, Pattern: "^([0-9]+-[0-9]+|any)$", Examples: []any{"8000-8099", "any"}},
		},
	}
}

// mentionsToken reports whether an operation is allowed only with the token.
func mentionsToken(op *huma.Operation) bool {
	return len(op.Security) > 0 || !strings.EqualFold(op.Method, http.MethodGet)
}
