//! The whole way: dumped under write load, listed, proved, restored elsewhere, compared.

use std::process::Stdio;

use svckit_testbed::stories::Story;

use super::bed::{Kind, Server, words};

pub(super) const STORIES: &[Story] = &[
    (
        "a PostgreSQL server is dumped by its socket under write load, proved, and restored over TCP with its roles",
        postgres,
    ),
    (
        "a MariaDB server is dumped by its socket under write load, proved, and restored into another with its users",
        mariadb,
    ),
    ("a Redis server is dumped by its socket and over TCP, proved, and restored elsewhere", redis),
    ("a server of this host is a member of a group", group),
];

pub(super) const AS_ROOT: &[Story] =
    &[("root reaches a server that knows users by its socket, without a password", known_by_the_socket)];

/// Transactions that change two tables alike, until it is dropped.
struct Writer {
    child: std::process::Child,
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
    feeder: Option<std::thread::JoinHandle<u64>>,
}

impl Writer {
    fn start(server: &Server) -> Self {
        use std::io::Write;
        let mut child = server.client().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (ends, choose) = (end.clone(), if server.kind == Kind::Postgres { "\\c shop" } else { "USE shop;" });
        let feeder = std::thread::spawn(move || {
            let mut number = 0;
            writeln!(input, "{choose}").unwrap();
            // A full pipe paces it by the server.
            while !ends.load(std::sync::atomic::Ordering::SeqCst) {
                number += 1;
                let both = format!("INSERT INTO debit VALUES ({number}, -1); INSERT INTO credit VALUES ({number}, 1);");
                writeln!(input, "BEGIN; {both} COMMIT;").unwrap();
            }
            number
        });
        Self { child, end, feeder: Some(feeder) }
    }

    fn finish(mut self) -> u64 {
        self.end.store(true, std::sync::atomic::Ordering::SeqCst);
        let count = self.feeder.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success());
        count
    }
}

/// From the first dump to the last comparison.
fn whole_way(one: &Server, other: &Server, address: &str, query: &str, wanted: &str) {
    let writer = Writer::start(one);
    super::bed::until("the writer's work", || {
        let count = if one.kind == Kind::Postgres {
            "\\c shop\nSELECT count(*) FROM debit"
        } else {
            "SELECT COUNT(*) FROM shop.debit"
        };
        one.sql(count).trim() != "0"
    });
    let report = one.back_up(&["--json"]).expect(0).json();
    assert!(writer.finish() > 100);
    assert!(report["place"].as_str().unwrap().starts_with("server unix:/"), "{report}");
    let listed = one.svc_backup(&["list", "--from", &one.store()]).expect(0);
    assert!(listed.stdout.contains("shop") && listed.stdout.contains("hot"), "{listed:?}");
    // The counts of the manifest are those of the dump's own snapshot, although the server was written to.
    let verified = one.svc_backup(&["verify", "--from", &one.store(), "--restore", "--query", query]).expect(0);
    assert!(verified.stdout.contains(wanted) && verified.stdout.contains("queries"), "{verified:?}");
    let wrong = query.replace(" = ", " <> ");
    one.svc_backup(&["verify", "--from", &one.store(), "--restore", "--query", &wrong]).expect(12);
    one.assert_only(1);

    let store = one.store();
    let login = other.login();
    let args = [&["restore", "--from", &store, "shop", "--server", address][..], &words(&login)].concat();
    let restored = other.svc_backup(&args).expect(0);
    assert!(restored.stdout.contains("compared: loaded"), "{restored:?}");
    let refused = other.svc_backup(&args).expect(22);
    assert!(refused.stderr.contains("--overwrite") && refused.stderr.contains("shop ("), "{refused:?}");
    let again = other.svc_backup(&[&args[..], &["--overwrite"]].concat()).expect(0);
    assert!(again.stdout.contains("of shop.replaced"), "{again:?}");
    other.assert_only(0);
}

fn postgres() {
    let (one, other) = (Server::postgres(), Server::postgres());
    one.sql(include_str!("../docker/servers/shop.pg.sql"));
    let query = "SELECT (SELECT count(*) FROM debit) = (SELECT count(*) FROM credit)
        AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') => t";
    whole_way(&one, &other, &other.tcp(), query, "counts, every definition");
    let all = "\\c shop\nSELECT count(*), sum(hashtext(data::text)) FROM big; SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app';";
    assert_eq!(one.sql(all), other.sql(all));
}

fn mariadb() {
    let (one, other) = (Server::mariadb(), Server::mariadb());
    one.sql(include_str!("../docker/servers/shop.sql"));
    // A socket is one by whatever name.
    let link = other.path("link");
    std::os::unix::fs::symlink(other.path("server/sock"), &link).unwrap();
    let query = "SELECT (SELECT COUNT(*) FROM debit) = (SELECT COUNT(*) FROM credit) => 1";
    whole_way(&one, &other, link.to_str().unwrap(), query, "every row, every definition");
    let all = "CHECKSUM TABLE shop.item, shop.`odd ``name`; SELECT user, host FROM mysql.user WHERE user IN ('app', 'reader');";
    assert_eq!(one.sql(all), other.sql(all));
}

/// What redis-cli answers, told the password as svckit tells it.
fn redis_cli(server: &Server, command: &[&str]) -> String {
    let mut client = std::process::Command::new("redis-cli");
    client.args(["-e", "-s", server.path("server/sock").to_str().unwrap(), "--askpass", "--no-auth-warning"]);
    client.args(command);
    let input = std::fs::File::open(server.path("password")).unwrap();
    svckit_testbed::command::start_with_input(client, input).finish(super::bed::SOON).expect(0).stdout
}

/// Each kind of value, small and large; a time to live; a second database.
const KEYS: &str = "
    for n = 1, 20000 do redis.call('SET', 'key:' .. n, 'value ' .. n) end
    for n = 1, 2000 do
        redis.call('HSET', 'hash', n, n * 2); redis.call('SADD', 'set', 'member ' .. n); redis.call('SADD', 'numbers', n)
        redis.call('ZADD', 'sorted', n / 3, n); redis.call('RPUSH', 'list', string.rep('x', n % 50) .. n)
        redis.call('XADD', 'stream', n .. '-1', 'field', n)
    end
    redis.call('XGROUP', 'CREATE', 'stream', 'readers', '0')
    redis.call('XREADGROUP', 'GROUP', 'readers', 'one', 'COUNT', '5', 'STREAMS', 'stream', '>')
    redis.call('SET', string.rep('long', 50), 'a key that is compressed'); redis.call('SET', '12345', '-7')
    redis.call('SET', 'expires', 'late', 'PXAT', '4102444800123')
    redis.call('SELECT', 3); redis.call('SET', 'elsewhere', 'in another database')
    return 'OK'";
/// Of all of it, whatever the order in which it lies there.
const DIGEST: &str = "
    local sum = ''
    for _, database in ipairs({0, 3}) do
        redis.call('SELECT', database)
        local names = redis.call('KEYS', '*')
        table.sort(names)
        for _, name in ipairs(names) do
            local kind, value = redis.call('TYPE', name)['ok'], ''
            if kind == 'hash' then value = redis.call('HGETALL', name)
            elseif kind == 'set' then value = redis.call('SMEMBERS', name)
            elseif kind == 'zset' then value = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
            elseif kind == 'list' then value = redis.call('LRANGE', name, 0, -1)
            elseif kind == 'stream' then value = redis.call('XPENDING', name, 'readers', '-', '+', 10)
                value = cjson.encode(value[#value][1]) .. cjson.encode(redis.call('XRANGE', name, '-', '+'))
            else value = redis.call('GET', name) end
            if kind == 'hash' or kind == 'set' then table.sort(value) end
            if type(value) == 'table' then value = cjson.encode(value) end
            sum = redis.sha1hex(sum .. name .. value .. redis.call('PEXPIRETIME', name))
        end
    end
    return sum";

fn redis() {
    let (one, other) = (Server::redis(), Server::redis());
    assert_eq!(redis_cli(&one, &["EVAL", KEYS, "0"]).trim(), "OK");
    let code = "#!lua name=shop\nredis.register_function('total', function() return 42 end)";
    redis_cli(&one, &["FUNCTION", "LOAD", code]);
    let is = redis_cli(&one, &["EVAL", DIGEST, "0"]);
    for address in [one.socket(), one.tcp()] {
        let dumped = one.svc_backup(&words(&one.backup_args(&address, &["--json"]))).expect(0).json();
        assert_eq!(dumped["databases"][0]["rows"], 20_009, "{dumped}");
    }
    let verified =
        one.svc_backup(&["verify", "--from", &one.store(), "--restore", "--query", "GET key:7 => value 7"]).expect(0);
    assert!(verified.stdout.contains("parsed by redis-check-rdb, loaded, keys, queries"), "{verified:?}");

    let restored = |more: &[&str]| {
        let args = ["restore", "--from", &one.store(), "shop", "--server", &other.tcp()].map(str::to_owned);
        other.svc_backup(&[&words(&[&args[..], &other.login()].concat()), more].concat())
    };
    restored(&[]).expect(0);
    assert_eq!(redis_cli(&other, &["EVAL", DIGEST, "0"]), is);
    assert_eq!(redis_cli(&other, &["FCALL", "total", "0"]).trim(), "42");
    // What is there is not replaced unasked, and is kept where it is.
    redis_cli(&other, &["SET", "extra", "of the other"]);
    let refused = restored(&[]).expect(22);
    for there in ["db0 (20010 keys)", "db3 (1 keys)", "functions"] {
        assert!(refused.stderr.contains(there), "{there}: {refused:?}");
    }
    let replaced = restored(&["--overwrite", "--json"]).expect(0).json();
    assert_eq!(redis_cli(&other, &["EVAL", DIGEST, "0"]), is);
    let kept = replaced["kept"][0].as_str().unwrap();
    let query = ["verify", "--from", &one.store(), kept, "--restore", "--query", "GET extra => of the other"];
    one.svc_backup(&query).expect(0);
    one.assert_only(2);
}

fn group() {
    let server = Server::postgres();
    server.sql(include_str!("../docker/servers/shop.pg.sql"));
    let notes = server.path("notes.db");
    rusqlite::Connection::open(&notes).unwrap().execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    let config = server.path("svckit.toml");
    let text = format!(
        "[defaults]\nstore = {:?}\n[target.db]\nengine = \"postgres\"\nserver = {:?}\nuser = \"admin\"\n\
         password-file = {:?}\n[target.notes]\nsqlite = [{notes:?}]\n[group.shop]\nmembers = [\"db\", \"notes\"]\n",
        server.store(),
        server.tcp(),
        server.path("password")
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let targets = server.svc_backup(&["--config", config, "targets"]).expect(0);
    assert!(targets.stdout.contains(&format!("service: server {}", server.tcp())), "{targets:?}");
    let taken = server.svc_backup(&["--config", config, "backup", "--group", "shop", "--json"]).expect(0).json();
    assert_eq!(taken["members"].as_array().unwrap().len(), 2, "{taken}");
    let verified = server.svc_backup(&["verify", "--from", &server.store(), "shop", "--restore"]).expect(0);
    assert!(verified.stdout.contains("counts"), "{verified:?}");
    let other = Server::postgres();
    let login = other.login();
    let args = ["restore", "--from", &server.store(), "shop", "--member", "db", "--server", &other.socket()]
        .map(str::to_owned);
    other.svc_backup(&words(&[&args[..], &login].concat())).expect(0);
    assert_eq!(other.sql("\\c shop\nSELECT count(*) FROM big").trim(), "20000");
    server.assert_only(1);
}

fn known_by_the_socket() {
    let server = Server::postgres_with(&["--auth-local=peer", "--auth-host=scram-sha-256", "--username=postgres"]);
    let args = |address: &str| {
        ["backup", "--engine", "postgres", "--server", address, "--name", "shop", "--to", &server.store()]
            .map(str::to_owned)
    };
    let dumped = server.svc_backup(&words(&args(&server.socket()))).expect(0);
    assert!(dumped.stdout.contains("verified"), "{dumped:?}");
    server.svc_backup(&["verify", "--from", &server.store(), "--restore"]).expect(0);
    let refused = server.svc_backup(&words(&args(&server.tcp()))).expect(23);
    assert!(refused.stderr.contains("refuses user postgres"), "{refused:?}");
    server.assert_only(1);
}
