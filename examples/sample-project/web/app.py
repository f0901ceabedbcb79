"""The site: departures, tickets, and a page for the harbour office."""

import hashlib
import os
import shlex
import subprocess

import requests
from flask import Flask, redirect, render_template_string, request, send_file
from werkzeug.utils import secure_filename

from db import find_ticket, find_tickets_by_name

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ.get("FERRY_SECRET_KEY")
TICKET_FOLDER = "/srv/ferry/tickets"


@app.get("/ping")
def ping():
    host = request.args["host"]
    return subprocess.check_output("ping -c 1 " + host, shell=True)


@app.get("/trace")
def trace():
    host = shlex.quote(request.args["host"])
    return subprocess.check_output(["traceroute", host])


@app.get("/tickets")
def tickets():
    return find_tickets_by_name(request.args["name"])


@app.get("/ticket/<int:number>")
def ticket(number):
    return find_ticket(number)


@app.get("/download")
def download():
    return send_file(os.path.join(TICKET_FOLDER, request.args["file"]))


@app.get("/receipt")
def receipt():
    return send_file(os.path.join(TICKET_FOLDER, secure_filename(request.args["file"])))


@app.get("/preview")
def preview():
    return requests.get(request.args["url"], timeout=5).text


@app.get("/weather")
def weather():
    return requests.get("https://weather.example.com/v1", params={"port": request.args["port"]}, timeout=5).json()


@app.get("/hello")
def hello():
    return render_template_string("<p>Welcome aboard, " + request.args["name"] + "</p>")


@app.get("/welcome")
def welcome():
    return render_template_string("<p>Welcome aboard, {{ name }}</p>", name=request.args["name"])


@app.get("/fare")
def fare():
    return str(eval(request.args["formula"]))


def ticket_checksum(data):
    return hashlib.md5(data).hexdigest()


def cache_name(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@app.get("/home")
def home():
    return redirect("/")


if __name__ == "__main__":
    app.run(debug=True)
