//! What Compose writes on its containers: who is who, and who depends on whom.

use bollard::models::ContainerSummary;

use super::engine::{Engine, EngineError};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
/// `SERVICE:CONDITION:RESTART,...`, since Compose 2.1.
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Of `docker compose run`: no part of the project's services.
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// The id of the container that now stands for project, service and number.
pub(super) fn recreated(
    engine: &Engine,
    (project, service, number): &(String, String, String),
) -> Result<Option<String>, EngineError> {
    let labels = [(PROJECT, project), (SERVICE, service), (NUMBER, number)];
    let found = engine.list(labels.map(|(name, value)| format!("{name}={value}")).to_vec(), true)?;
    Ok(found.into_iter().filter(|one| label(one, ONE_OFF) != Some("True")).find_map(|one| one.id))
}

/// The ids of the running containers of the project that depend on the service, in the order in which they are
/// stopped: whoever depends on another comes before it.
pub(super) fn dependants(
    engine: &Engine,
    (project, service, _): &(String, String, String),
) -> Result<Vec<String>, EngineError> {
    let found = engine.list(vec![format!("{PROJECT}={project}")], false)?;
    Ok(in_stop_order(&found, service))
}

fn in_stop_order(found: &[ContainerSummary], service: &str) -> Vec<String> {
    let mut ordered: Vec<&ContainerSummary> = Vec::new();
    let mut todo = vec![service];
    let mut seen = vec![service];
    while let Some(needed) = todo.pop() {
        for one in found.iter().filter(|one| label(one, ONE_OFF) != Some("True") && depends_on(one, needed)) {
            // Found once more deeper down: then it must be stopped earlier.
            ordered.retain(|known| known.id != one.id);
            ordered.push(one);
            if let Some(name) = label(one, SERVICE).filter(|name| !seen.contains(name)) {
                seen.push(name);
                todo.insert(0, name);
            }
        }
    }
    ordered
        .into_iter()
        .rev()
        .filter(|one| label(one, SERVICE) != Some(service))
        .filter_map(|one| one.id.clone())
        .collect()
}

fn depends_on(one: &ContainerSummary, service: &str) -> bool {
    let list = label(one, DEPENDS_ON).unwrap_or_default();
    list.split(',').any(|item| item.split(':').next() == Some(service))
}

fn label<'a>(one: &'a ContainerSummary, name: &str) -> Option<&'a str> {
    one.labels.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(service: &str, depends_on: &str) -> ContainerSummary {
        let labels = [(SERVICE, service), (DEPENDS_ON, depends_on)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        ContainerSummary { id: Some(service.to_owned()), labels: Some(labels), ..Default::default() }
    }

    #[test]
    fn whoever_depends_on_another_is_stopped_before_it() {
        let all = [
            container("db", ""),
            container("web", "api:service_started:false,db:service_healthy:true"),
            container("api", "db:service_healthy:true,cache:service_started:false"),
            container("cache", ""),
            container("proxy", "web:service_started:false"),
        ];
        assert_eq!(in_stop_order(&all, "db"), ["proxy", "web", "api"]);
        assert_eq!(in_stop_order(&all, "cache"), ["proxy", "web", "api"]);
        assert_eq!(in_stop_order(&all, "proxy"), Vec::<String>::new());
    }

    #[test]
    fn a_label_in_a_circle_or_of_nonsense_ends_and_never_names_the_service_itself() {
        let all = [container("a", "b:x:y"), container("b", "a:x:y"), container("c", ",,::,b"), container("d", "")];
        let found = in_stop_order(&all, "a");
        assert!(found.contains(&"b".to_owned()) && found.contains(&"c".to_owned()) && found.len() == 2, "{found:?}");
    }
}
