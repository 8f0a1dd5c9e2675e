// Typical requests with Go's net/http: create, read, change, list, import, export and delete members.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

var client http.Client // keeps connections

func send(method, path string, status int, body string, headers ...string) (http.Header, string) {
	base := os.Getenv("MEMBERS_URL")
	if base == "" {
		base = "http://127.0.0.1:8888"
	}
	request, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("MEMBERS_TOKEN"))
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body) // to the end, so that the connection is kept
	if err != nil || response.StatusCode != status {
		log.Fatalf("%s %s: %s %s %v", method, path, response.Status, content, err)
	}
	return response.Header, string(content)
}

func main() {
	ada := `{"name": "Ada Go", "phone": "555-0100"}`
	created, _ := send("POST", "/members", 201, ada, "Content-Type", "application/json")
	path, etag := created.Get("Location"), created.Get("ETag")
	send("GET", path, 304, "", "If-None-Match", etag)

	merge := []string{"If-Match", etag, "Content-Type", "application/merge-patch+json"}
	send("PATCH", path, 200, `{"phone": "555-0199"}`, merge...)
	send("PATCH", path, 412, `{"phone": null}`, merge...) // another version by now

	var page struct{ Items []struct{ Name string } }
	_, list := send("GET", "/members?limit=10&q=go", 200, "")
	if err := json.Unmarshal([]byte(list), &page); err != nil || len(page.Items) != 1 {
		log.Fatal(list, err)
	}

	rows := "name,email\nBob Go,bob@example.org\nCyd Go,cyd@example.org\n"
	_, results := send("POST", "/members/import", 200, rows, "Content-Type", "text/csv")
	if !strings.HasSuffix(results, "{\"summary\": {\"created\": 2}}\n") {
		log.Fatal(results)
	}
	_, export := send("GET", "/members?q=go", 200, "", "Accept", "text/csv")
	lines := strings.Split(strings.TrimSpace(export), "\n")[1:]
	for _, line := range lines {
		id, _, _ := strings.Cut(line, ",")
		send("DELETE", "/members/"+id, 204, "")
	}
	fmt.Printf("go: %d members made, read, changed and deleted\n", len(lines))
}
