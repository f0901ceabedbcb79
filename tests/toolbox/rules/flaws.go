package flaws

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"database/sql"
	"html/template"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/golang-jwt/jwt/v5"
)

func commands(w http.ResponseWriter, r *http.Request) {
	host := r.FormValue("host")
	// ruleid: go-command-injection
	exec.Command("sh", "-c", "ping "+host).Run()
	// ok: go-command-injection
	exec.Command("ping", "-c", "1", host).Run()
}

func queries(db *sql.DB, r *http.Request) {
	name := r.URL.Query().Get("name")
	// ruleid: go-sql-injection
	db.Query("SELECT * FROM users WHERE name = '" + name + "'")
	// ok: go-sql-injection
	db.Query("SELECT * FROM users WHERE name = ?", name)
	id, _ := strconv.Atoi(r.FormValue("id"))
	// ok: go-sql-injection
	db.Query("SELECT * FROM users WHERE id = " + strconv.Itoa(id))
}

func files(r *http.Request) {
	name := r.FormValue("name")
	// ruleid: go-path-traversal
	os.Open("/srv/files/" + name)
	// ok: go-path-traversal
	os.Open(filepath.Join("/srv/files", filepath.Base(name)))
}

func fetch(r *http.Request) {
	// ruleid: go-ssrf
	http.Get(r.FormValue("url"))
	// ok: go-ssrf
	http.Get("https://api.example.com/v1")
}

func transport() {
	// ruleid: go-tls-verification-off
	_ = &tls.Config{InsecureSkipVerify: true}
	// ok: go-tls-verification-off
	_ = &tls.Config{MinVersion: tls.VersionTLS13}
}

func digests(data []byte) {
	// ruleid: go-weak-hash
	md5.Sum(data)
	// ok: go-weak-hash
	sha256.Sum256(data)
}

func tokens(text string, keys jwt.Keyfunc) {
	parser := jwt.NewParser()
	// ruleid: go-jwt-none
	parser.ParseUnverified(text, jwt.MapClaims{})
	// ok: go-jwt-none
	parser.Parse(text, keys)
}

func randomness() (int, int) {
	// ruleid: go-math-rand-secret
	sessionToken := rand.Int()
	// ok: go-math-rand-secret
	delay := rand.Intn(100)
	return sessionToken, delay
}

func page(name string) {
	// ruleid: go-template-unescaped
	_ = template.HTML("<b>" + name + "</b>")
	// ok: go-template-unescaped
	_ = template.HTML("<hr>")
}
