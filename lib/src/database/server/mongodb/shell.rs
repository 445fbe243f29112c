//! Questions, by the server's own shell: `mongosh`, or `mongo` of older images.
//!
//! It writes what it is told to do into a log of its own. So no script has the password: it reads that from a file that
//! only its owner can read, while it runs.

use serde_json::Value;

use super::super::secret_file::SecretFile;
use super::super::{ServerError, Session};
use crate::controller::docker::Ended;
use crate::failure::FailureKind;

const SHELLS: &[&str] = &["mongosh", "mongo"];
/// Where the servers of the usual images listen.
pub(super) const HOST: &str = "127.0.0.1";
pub(super) const PORT: &str = "27017";
const ANSWER: &str = "svckit: ";
const FAILURE: &str = "svckit failure: ";
/// Who may read everything is known there.
pub(super) const AUTHENTICATES: &str = "admin";

/// What has the password, where there is one.
pub(super) fn user(session: &Session) -> Result<Option<(&str, &str)>, ServerError> {
    let Some(secret) = &session.secret else { return Ok(None) };
    match session.user.as_deref() {
        Some(user) => Ok(Some((user, secret.reveal()))),
        None => Err(ServerError::Refused {
            reason: format!("{} has a password, and no user whose it is", session.place()),
            kind: FailureKind::Config,
            hint: Some("name the user: --user, svckit.user or MONGO_INITDB_ROOT_USERNAME".to_owned()),
        }),
    }
}

/// A text of JavaScript, and of YAML.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The answer of a function's body, which has `client` and `admin`, `command` that fails where its answer says so, and
/// `own`: the names of a database's collections that are not the server's.
pub(super) fn ask(session: &Session, action: &str, body: &str) -> Result<Value, ServerError> {
    let (shell, _) = session.first_program(action, SHELLS)?;
    let (mut login, mut file) = (None, None);
    if let Some((user, password)) = user(session)? {
        let made = SecretFile::make(session, quoted(password).as_bytes())?;
        login = Some((user, made.path().to_owned()));
        file = Some(made);
    }
    let script = script(login.as_ref().map(|(user, path)| (*user, path.as_str())), body);
    let argv = [&shell, "--nodb", "--norc", "--quiet", "--eval", &script].map(str::to_owned).to_vec();
    let (mut ended, out) = session.ran(action, argv, b"")?;
    drop(file);
    judged(&out).unwrap_or_else(|said| {
        if ended.code == 0 {
            ended.code = 1;
        }
        if let Some(said) = said {
            ended.said = said;
        } else if ended.said.is_empty() {
            ended.said.clone_from(&out);
        }
        let Ended { code, said } = ended;
        match session.attempt(action).ended(&shell, &Ended { code, said }) {
            Err(error) => Err(error),
            Ok(()) => Ok(Value::Null),
        }
    })
}

/// What both shells run. `login` is a user and the file with the password, as a text of JSON.
fn script(login: Option<(&str, &str)>, body: &str) -> String {
    let login = login.map_or_else(String::new, |(user, path)| {
        format!(
            "var path = {}; \
             var text = typeof cat === \"function\" ? cat(path) : require(\"fs\").readFileSync(path, \"utf8\"); \
             if (!admin.auth({}, JSON.parse(text))) throw new Error(\"Authentication failed\");",
            quoted(path),
            quoted(user)
        )
    });
    format!(
        "(function () {{ try {{ \
         var client = new Mongo(\"{HOST}:{PORT}\"); var admin = client.getDB(\"{AUTHENTICATES}\"); {login} \
         var command = function (words) {{ var answer = admin.adminCommand(words); \
         if (!answer.ok) throw new Error(answer.errmsg); return answer; }}; \
         var own = function (name) {{ var all = client.getDB(name).getCollectionNames(), found = []; \
         for (var at = 0; at < all.length; at++) if (!/^system\\./.test(all[at])) found.push(all[at]); return found; }}; \
         var answer = (function () {{ {body} }})(); \
         print(\"{ANSWER}\" + JSON.stringify(answer === undefined ? null : answer)); \
         }} catch (error) {{ print(\"{FAILURE}\" + JSON.stringify(String(error.message || error))); }} }})()"
    )
}

/// What it answered; else why not, where it says so.
fn judged(out: &str) -> Result<Result<Value, ServerError>, Option<String>> {
    let line = |mark: &str| out.lines().find_map(|line| line.trim().strip_prefix(mark));
    if let Some(answer) = line(ANSWER) {
        return serde_json::from_str(answer).map(Ok).map_err(|_| Some("its answer can't be read".to_owned()));
    }
    let said = line(FAILURE).map(|said| serde_json::from_str(said).unwrap_or_else(|_| said.to_owned()));
    Err(said)
}

/// The texts of an answer that is a list of them.
pub(super) fn texts(answer: &Value) -> Vec<String> {
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_place_of_the_password_and_names_as_texts() {
        let of_somebody = script(Some(("a\"; quit(); \"", "/dev/shm/x")), "return 1;");
        assert!(of_somebody.contains(r#"admin.auth("a\"; quit(); \"", JSON.parse(text))"#), "{of_somebody}");
        assert!(of_somebody.contains(r#"var path = "/dev/shm/x";"#) && of_somebody.contains("return 1;"));
        assert!(!script(None, "return 1;").contains("auth("));
    }

    #[test]
    fn an_answer_is_told_from_a_failure_and_from_what_a_shell_says_beside() {
        let answer = |out: &str| judged(out).map(|answer| answer.unwrap());
        assert_eq!(answer("connecting to: x\nsvckit: [\"a\",\"b\"]\n").map(|all| texts(&all)), Ok(words(&["a", "b"])));
        assert_eq!(
            answer("svckit failure: \"Authentication failed\"\n"),
            Err(Some("Authentication failed".to_owned()))
        );
        assert_eq!(answer("svckit: [\n"), Err(Some("its answer can't be read".to_owned())));
        assert_eq!(answer(""), Err(None));
    }

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }
}
