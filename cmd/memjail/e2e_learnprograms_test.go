package main_test

// learned are real programs, to be learned from one run. $PORT is a free port. Those with a
// row in the table of docs/learn.md come first.
var learned = []work{
	{"git clone", []string{"git"}, nil,
		"git init -q o; git -C o -c user.name=a -c user.email=a@b commit -q --allow-empty -m first; git " +
			"clone -q file://$PWD/o c; git -C c log --format=%s",
		"first"},
	{"npm install", []string{"npm", "node"}, map[string]string{
		"tiny/package.json": `{"name":"tiny","version":"1.0.0","main":"index.js"}`,
		"tiny/index.js":     "module.exports = 42",
		"app/package.json":  `{"name":"app","version":"1.0.0"}`,
	}, "export npm_config_update_notifier=false; (cd tiny && npm pack -s >/dev/null) && " +
		"cd app && npm install -s --offline --no-audit --no-fund ../tiny/tiny-1.0.0.tgz >/dev/null && " +
		"node -e 'console.log(require(\"tiny\"))'", "42"},
	{"pip install", []string{"/usr/bin/python3"}, map[string]string{
		"src/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\".\"]\n",
		"src/own.py": "import zipfile\ndef build_wheel(d, config_settings=None, metadata_directory=None):\n" +
			"    n = 'tiny-1.0-py3-none-any.whl'\n    z = zipfile.ZipFile(d + '/' + n, 'w')\n" +
			"    z.writestr('tiny.py', 'answer = 42')\n" +
			"    z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n" +
			"    z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: " +
			"true\\nTag: py3-none-any\\n')\n" +
			"    z.writestr('tiny-1.0.dist-info/RECORD', '')\n    z.close()\n    return n\n",
	}, "/usr/bin/python3 -m venv env && env/bin/pip install -q --disable-pip-version-check --no-index ./src && " +
		"env/bin/python -c 'import tiny; print(tiny.answer)'", "42"},
	{"go build", []string{"go"}, map[string]string{
		"go.mod":  "module app\n\ngo 1.21\n",
		"main.go": "package main\n\nfunc main() { println(\"x\"); print() }\n",
	}, "go build -o app . && ./app 2>&1", "x"},
	{"cargo build", []string{"/usr/bin/cargo", "/usr/bin/rustc"}, map[string]string{
		"Cargo.toml":  "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
		"src/main.rs": "fn main() { println!(\"42\"); }\n",
	}, "export RUSTC=/usr/bin/rustc; /usr/bin/cargo build -q --offline && target/debug/app", "42"},
	{"make", []string{"make", "gcc"}, map[string]string{
		"Makefile": "check: main\n\t./main\nmain: main.o part.o\n",
		"main.c":   "#include <stdio.h>\nint part(void);\nint main(void) { printf(\"%d\\n\", part()); return 0; }\n",
		"part.c":   "int part(void) { return 42; }\n",
	}, "make -s check", "42"},
	{"Flask", []string{"/usr/bin/python3"}, map[string]string{"app.py": `
import os, threading, urllib.request, logging
import flask
from werkzeug.serving import make_server
logging.getLogger("werkzeug").disabled = True
app = flask.Flask(__name__)
@app.route("/")
def index(): return flask.render_template("page.html", who="you")
server = make_server("127.0.0.1", int(os.environ["PORT"]), app)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:%s/" % os.environ["PORT"]).read().decode())
`, "templates/page.html": "hello {{ who }}\n"}, "/usr/bin/python3 app.py", "hello you"},
	{"redis", []string{"redis-server", "redis-cli"}, nil,
		"redis-server --port 0 --unixsocket $PWD/s --daemonize no --save '' --logfile l & " +
			"until redis-cli -s s ping >/dev/null 2>&1; do sleep 0.1; done; redis-cli -s s set a 1; " +
			"redis-cli -s s shutdown nosave; wait", "OK"},
	{"nginx", []string{"nginx", "/usr/bin/python3"}, map[string]string{
		"page": "hello\n",
		"make-conf": `cat >nginx.conf <<end
daemon off; pid $PWD/pid; error_log $PWD/errors; events {}
http { access_log $PWD/access; client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2;
fastcgi_temp_path $PWD/t3; uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5;
server { listen 127.0.0.1:$PORT; root $PWD; } }
end
[ "$(id -u)" != 0 ] || sed -i '1s/^/user root; /' nginx.conf
`}, ". ./make-conf; nginx -e $PWD/errors -c $PWD/nginx.conf & " +
		"until [ -s pid ]; do sleep 0.1; done; /usr/bin/python3 -c 'import sys, urllib.request; " +
		"print(urllib.request.urlopen(sys.argv[1]).read().decode(), end=\"\")' http://127.0.0.1:$PORT/page; " +
		"kill -QUIT $(cat pid); wait", "hello"},
	{"PostgreSQL", []string{"psql"}, nil,
		"PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; initdb -D d -A trust -U me >/dev/null 2>&1; " +
			"pg_ctl -D d -o \"-c listen_addresses='' -c unix_socket_directories=$PWD\" -l log -w start >/dev/null; " +
			"psql -h $PWD -U me -d postgres -Atc 'create table t (n int); insert into t values (42); " +
			"select n from t' | tail -1; " +
			"pg_ctl -D d -m fast -w stop >/dev/null", "42"},
	{"vim", []string{"vi"}, map[string]string{"f": "one\n"}, "vi -es -c '%s/one/two/' -c wq f; cat f", "two"},
	{"chromium", []string{"chromium"},
		map[string]string{"page.html": "<p id=x></p><script>x.textContent = 6 * 7</script>"},
		"chromium --headless --no-sandbox --disable-gpu --dump-dom file://$PWD/page.html 2>/dev/null | " +
			"grep -o '>42<'", ">42<"},
	{"a Java service", []string{"javac", "java"}, map[string]string{"A.java": `
import com.sun.net.httpserver.HttpServer;
import java.net.*;
import java.net.http.*;
public class A {
	public static void main(String[] a) throws Exception {
		int port = Integer.parseInt(System.getenv("PORT"));
		HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
		s.createContext("/", x -> { x.sendResponseHeaders(200, 2); x.getResponseBody().write("42".getBytes()); x.close(); });
		s.start();
		System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(
			URI.create("http://127.0.0.1:" + port)).build(), HttpResponse.BodyHandlers.ofString()).body());
		s.stop(0);
	}
}
`}, "javac A.java && java A", "42"},
	{"ls", []string{"ls"}, map[string]string{"a": "", "b/c": ""}, "ls -R", ".:\na\nb\n\n./b:\nc"},
}

// learnedBesides are the programs without a row in the table.
var learnedBesides = []work{
	{"Java compiler", []string{"javac", "java"}, map[string]string{
		"A.java": "public class A { public static void main(String[] a) throws Exception {" +
			"java.nio.file.Files.writeString(java.nio.file.Path.of(\"out\"), \"42\"); " +
			"System.out.println(java.nio.file.Files.readString(java.nio.file.Path.of(\"out\"))); } }",
	}, "javac A.java && java A", "42"},
	{"Python web server", []string{"/usr/bin/python3"}, map[string]string{"page": "hello\n", "serve.py": `
import http.server, os, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:%d/page" % server.server_port).read().decode(), end="")
`}, "/usr/bin/python3 serve.py", "hello"},
	{"find and sort", []string{"find", "sort"}, map[string]string{"d/b": "", "d/a": ""},
		"find d -type f | sort | xargs -n1 basename", "a\nb"},
	{"perl", []string{"perl"}, map[string]string{"in": "3\n4\n"},
		"perl -MList::Util=sum -ne '$s += $_; END { print \"$s\\n\" }' in", "7"},
	{"sed and awk", []string{"sed", "awk"}, map[string]string{"f": "1 2\n"},
		"sed s/1/40/ f | awk '{ print $1 + $2 }'", "42"},
	{"ssh-keygen", []string{"ssh-keygen"}, nil,
		"ssh-keygen -q -t ed25519 -N '' -C me -f k; cut -d' ' -f1,3 k.pub", "ssh-ed25519 me"},
	{"node", []string{"node"}, map[string]string{"a.js": "const fs = require('fs'); fs.writeFileSync('out', '42'); " +
		"console.log(fs.readFileSync('out', 'utf8'))"}, "node a.js", "42"},
	{"busybox", []string{"busybox"}, map[string]string{"f": "b\na\n"},
		"busybox sort f | busybox gzip | busybox zcat", "a\nb"},
}
