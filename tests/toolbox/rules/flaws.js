const { exec, execSync, execFile } = require("child_process");
const axios = require("axios");
const crypto = require("crypto");
const fs = require("fs");
const https = require("https");
const jwt = require("jsonwebtoken");
const path = require("path");

function commands(req, res) {
  // ruleid: javascript-command-injection
  exec("nslookup " + req.query.host, done);
  // ruleid: javascript-command-injection
  execSync(`nslookup ${req.body.host}`);
  // ok: javascript-command-injection
  execFile("nslookup", [req.query.host], done);
  // ok: javascript-command-injection
  exec("uptime", done);
}

function queries(req, db) {
  // ruleid: javascript-sql-injection
  db.query("SELECT * FROM users WHERE name = '" + req.params.name + "'");
  // ok: javascript-sql-injection
  db.query("SELECT * FROM users WHERE name = ?", [req.params.name]);
  // ok: javascript-sql-injection
  db.query("SELECT * FROM users WHERE id = " + Number(req.params.id));
}

function code(text) {
  // ruleid: javascript-code-injection
  eval(text);
  // ruleid: javascript-code-injection
  new Function("a", text);
  // ok: javascript-code-injection
  eval("1 + 1");
  // ok: javascript-code-injection
  JSON.parse(text);
}

function page(element, text) {
  // ruleid: javascript-dom-xss
  element.innerHTML = "<b>" + text + "</b>";
  // ruleid: javascript-dom-xss
  document.write(text);
  // ok: javascript-dom-xss
  element.textContent = text;
  // ok: javascript-dom-xss
  element.innerHTML = "";
  // ok: javascript-dom-xss
  element.innerHTML = DOMPurify.sanitize(text);
}

function reflected(req, res) {
  // ruleid: javascript-reflected-xss
  res.send("<h1>" + req.query.title + "</h1>");
  // ok: javascript-reflected-xss
  res.send("<h1>" + escapeHtml(req.query.title) + "</h1>");
  // ok: javascript-reflected-xss
  res.json({ title: req.query.title });
}

function files(req, res) {
  // ruleid: javascript-path-traversal
  fs.readFileSync("/srv/files/" + req.query.name);
  // ok: javascript-path-traversal
  fs.readFileSync(path.join("/srv/files", path.basename(req.query.name)));
}

async function fetchAny(req) {
  // ruleid: javascript-ssrf
  await axios.get(req.query.url);
  // ok: javascript-ssrf
  await axios.get("https://api.example.com/v1", { params: { q: req.query.q } });
}

function redirect(req, res) {
  // ruleid: javascript-open-redirect
  res.redirect(req.query.next);
  // ok: javascript-open-redirect
  res.redirect("/home");
}

function tokens(token, key) {
  // ruleid: javascript-jwt-none
  jwt.verify(token, key, { algorithms: ["HS256", "none"] });
  // ok: javascript-jwt-none
  jwt.verify(token, key, { algorithms: ["HS256"] });
}

function transport() {
  // ruleid: javascript-tls-verification-off
  new https.Agent({ rejectUnauthorized: false });
  // ok: javascript-tls-verification-off
  new https.Agent({ rejectUnauthorized: true });
}

function digests(data) {
  // ruleid: javascript-weak-hash
  crypto.createHash("md5").update(data);
  // ok: javascript-weak-hash
  crypto.createHash("sha256").update(data);
}

// ruleid: javascript-hardcoded-credential
const jwtSecret = "n0t-so-secret-77";
// ok: javascript-hardcoded-credential
const apiKey = process.env.API_KEY;
// ok: javascript-hardcoded-credential
const password = "changeme";
// ok: javascript-hardcoded-credential
const passwordLabel = "Password";
