"""php-fpm with two workers, asked by FastCGI; their connections outlive requests.

Usage: php_fpm.py PHP_FPM ENDPOINT
"""
import os
import signal
import subprocess
import sys

sys.stdout.reconfigure(line_buffering=True)
PHP_FPM, ENDPOINT = sys.argv[1:3]
CONFIGURATION = """
[global]
error_log = {directory}/fpm.log
daemonize = no
[www]
listen = {directory}/fpm.sock
pm = static
pm.max_children = 2
user = {user}
group = {group}
env[ENDPOINT] = {endpoint}
"""


def get(query=""):
    """A request by cgi-fcgi; what the page says."""
    environment = os.environ | {
        "SCRIPT_FILENAME": os.path.join(os.path.dirname(os.path.abspath(__file__)), "php_fpm.php"),
        "REQUEST_METHOD": "GET", "QUERY_STRING": query}
    reply = subprocess.run(["cgi-fcgi", "-bind", "-connect", "fpm.sock"], env=environment,
                           stdout=subprocess.PIPE, text=True, check=True).stdout
    return reply.replace("\r", "").split("\n\n", 1)[1]


def main():
    with open("fpm.conf", "w") as file:
        file.write(CONFIGURATION.format(directory=os.getcwd(), user=os.getuid(), group=os.getgid(),
                                        endpoint=ENDPOINT))
    with open("fpm.out", "w") as log:
        master = subprocess.Popen([PHP_FPM, "--nodaemonize", "--allow-to-run-as-root",
                                   "--fpm-config", "fpm.conf"], stdout=log, stderr=log)
    while not os.path.exists("fpm.sock"):
        assert master.poll() is None, open("fpm.out").read()
    print("served", {get() for _ in range(20)})
    print("asked", {get("check") for _ in range(10)})
    print("killed", get("kill"), {get("check") for _ in range(4)})
    print("restarted", get("restart"), {get() for _ in range(4)}, {get("check") for _ in range(4)})
    master.send_signal(signal.SIGQUIT)
    print("ended", master.wait())


main()
