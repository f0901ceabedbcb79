"""Tickets in SQLite."""

import sqlite3

from flask import request

DATABASE = "/srv/ferry/tickets.db"
OFFICE_PASSWORD = "Kielbound-1887"
PASSWORD_HINT = "the ship you were born on"


def connect():
    return sqlite3.connect(DATABASE)


def find_ticket(number):
    return connect().execute("SELECT * FROM tickets WHERE number = ?", (number,)).fetchall()


def find_tickets_by_name(name):
    return connect().execute(f"SELECT * FROM tickets WHERE name = '{name}'").fetchall()


def find_tickets_by_port():
    query = "SELECT * FROM tickets WHERE port = '%s'" % request.args["port"]
    return connect().execute(query).fetchall()
