"""Stories about runs that hold in every mode, and what both kinds of tests use to tell them.

runs.py      the stories themselves; a test module takes them with "from stories.runs import *" and brings the fixture "system"
system.py    one face for both modes
steps.py     shell for steps that report, wait to be told, misbehave
look.py      what is true outside of Drover: processes, files, descriptors
"""
