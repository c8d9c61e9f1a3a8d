"""The Python function that this one replaces: the same algorithm and the same library calls."""

import ctypes
import json
import signal

# awslambdaric starts a process for each worker. None may outlive the process that started it.
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def terms(n):
    if n < 2:
        return [0, 1][: n + 1]
    sequence = [0, 1]
    for i in range(2, n + 1):
        sequence.append(sequence[i - 1] + sequence[i - 2])
    return sequence


def response(status, body):
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(body),
    }


def handler(event, _context):
    n = event.get("n")
    if not isinstance(n, int) or not 0 <= n <= 1000:
        return response(400, {"error": "Input must be an integer from 0 to 1000"})
    return response(200, {"n": n, "sequence": terms(n)})
