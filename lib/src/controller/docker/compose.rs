//! What Compose writes on its containers: who is who, and who depends on whom.

use bollard::models::ContainerSummary;

use super::engine::{Engine, EngineError};

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
/// `SERVICE:CONDITION:RESTART,...`, since Compose 2.1.
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Of `docker compose run`: no part of the project's services.
pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";

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
    let all: Vec<&ContainerSummary> = found.iter().filter(|one| label(one, ONE_OFF) != Some("True")).collect();
    // How many steps each lies above the service, by the longest way; a circle ends with the rounds.
    let mut steps: Vec<Option<usize>> = vec![None; all.len()];
    for round in 1..=all.len() {
        let before = steps.clone();
        for (index, one) in all.iter().enumerate().filter(|(_, one)| label(one, SERVICE) != Some(service)) {
            let is_below = |(other, at): (&&ContainerSummary, &Option<usize>)| {
                *at == Some(round - 1) && label(other, SERVICE).is_some_and(|name| depends_on(one, name))
            };
            let above = if round == 1 { depends_on(one, service) } else { all.iter().zip(&before).any(is_below) };
            if above {
                steps[index] = Some(round);
            }
        }
    }
    let mut ordered: Vec<(usize, &String)> =
        all.iter().zip(steps).filter_map(|(one, at)| Some((at?, one.id.as_ref()?))).collect();
    ordered.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    ordered.into_iter().map(|(_, id)| id.clone()).collect()
}

fn depends_on(one: &ContainerSummary, service: &str) -> bool {
    let list = label(one, DEPENDS_ON).unwrap_or_default();
    list.split(',').any(|item| item.split(':').next() == Some(service))
}

pub(super) fn label<'a>(one: &'a ContainerSummary, name: &str) -> Option<&'a str> {
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
