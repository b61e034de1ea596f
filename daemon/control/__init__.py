"""Control: the API server on a Unix socket, and its client dreamctl."""

SOCKET_NAME = "control.sock"  # in the state folder
ANSWERS_NAME = "answers.json"  # likewise: the last answers, for when no daemon runs
REPORT_NAME = "report.json"  # likewise: the last report, for when no daemon runs
