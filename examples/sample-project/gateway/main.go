// Package main is the gateway between the shop and the harbour's own system.
package main

import (
	"crypto/tls"
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

var db *sql.DB

func harbourClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func strictClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
}

func berth(w http.ResponseWriter, r *http.Request) {
	ship := r.URL.Query().Get("ship")
	rows, err := db.Query("SELECT berth FROM berths WHERE ship = '" + ship + "'")
	if err != nil {
		http.Error(w, "no berth", http.StatusInternalServerError)
		return
	}
	defer rows.Close()
}

func crane(w http.ResponseWriter, r *http.Request) {
	rows, err := db.Query("SELECT crane FROM berths WHERE ship = ?", r.URL.Query().Get("ship"))
	if err != nil {
		http.Error(w, "no crane", http.StatusInternalServerError)
		return
	}
	defer rows.Close()
}

func horn(w http.ResponseWriter, r *http.Request) {
	out, _ := exec.Command("sh", "-c", "horn --signal "+r.FormValue("signal")).Output()
	w.Write(out)
}

func light(w http.ResponseWriter, r *http.Request) {
	out, _ := exec.Command("light", "--signal", r.FormValue("signal")).Output()
	w.Write(out)
}

func manifest(w http.ResponseWriter, r *http.Request) {
	data, _ := os.ReadFile("/srv/ferry/manifests/" + r.FormValue("name"))
	w.Write(data)
}

func schedule(w http.ResponseWriter, r *http.Request) {
	data, _ := os.ReadFile(filepath.Join("/srv/ferry/schedules", filepath.Base(r.FormValue("name"))))
	w.Write(data)
}
