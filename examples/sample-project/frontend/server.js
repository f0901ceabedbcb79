const { exec, execFile } = require("child_process");
const crypto = require("crypto");
const express = require("express");
const fs = require("fs");
const https = require("https");
const path = require("path");
const db = require("./db");

const app = express();
const apiKey = process.env.FERRY_API_KEY;
const agent = new https.Agent({ rejectUnauthorized: false });

app.get("/route", (req, res) => {
  exec("route-planner --from " + req.query.from, (error, stdout) => res.json({ route: stdout }));
});

app.get("/distance", (req, res) => {
  execFile("route-planner", ["--distance", req.query.from], (error, stdout) => res.json({ distance: stdout }));
});

app.get("/search", (req, res) => {
  db.query("SELECT * FROM ports WHERE name LIKE '%" + req.query.q + "%'", (error, rows) => res.json(rows));
});

app.get("/port", (req, res) => {
  db.query("SELECT * FROM ports WHERE id = ?", [req.query.id], (error, rows) => res.json(rows));
});

app.get("/banner", (req, res) => {
  res.send("<h1>" + req.query.title + "</h1>");
});

app.get("/map", (req, res) => {
  res.send(fs.readFileSync("/srv/ferry/maps/" + req.query.name));
});

app.get("/chart", (req, res) => {
  res.type("png");
  fs.createReadStream(path.join("/srv/ferry/charts", path.basename(req.query.name))).pipe(res);
});

app.get("/login", (req, res) => {
  res.redirect(req.query.next);
});

app.get("/logout", (req, res) => {
  res.redirect("/");
});

function etag(body) {
  return crypto.createHash("sha256").update(body).digest("hex");
}

module.exports = { app, agent, apiKey, etag };
