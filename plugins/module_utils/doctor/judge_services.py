"""Judges Mongo, Kafka, Redis and the edge by what they answer."""

from __future__ import annotations

from ansible.module_utils.doctor.finding import WITHOUT_DOCKER, Finding, Seen

# a group is its worker's name, but for the coordinator
GROUPS = {
    "execution-coordinator": "coordinator",
    "k8s-worker": "k8s-worker",
    "result-processor": "result-processor",
    "saga-orchestrator": "saga-orchestrator",
}


def _logs(seen: Seen, service: str) -> str:
    return (
        f"as root on the server: cd {seen.current} && docker compose ps --all {service}; "
        f"docker compose logs --tail 100 {service}"
    )


def _silent(name: str, seen: Seen, why: str) -> list[Finding]:
    """A service that did not answer at all."""
    problem = seen.answers[name].problem
    return [Finding(name, "problem", f"{name.capitalize()} does not answer: {problem}.", why, _logs(seen, name))]


def docker_is_down(seen: Seen, check: str) -> list[Finding]:
    """The finding of checks that need Docker when that does not answer; [] when it does."""
    if seen.answers["docker"].problem:
        return [Finding(check, "unknown", WITHOUT_DOCKER)]
    return []


def mongo(seen: Seen) -> list[Finding]:
    """Whether Mongo answers, and whether the secrets' login is the database's."""
    down = docker_is_down(seen, "mongo")
    if down:
        return down
    if seen.answers["mongo"].problem:
        return _silent("mongo", seen, "Nobody can log in, and nothing is stored.")
    told = seen["mongo"]
    places: dict[str, str] = told["places"]
    refused = [name for name, answer in places.items() if answer == "refused"]
    why = "Backend and workers cannot log in: they do not start, or will not at their next start."
    site = seen.play("playbooks/site.yml", "-e integr8scode_mongo_login_was_changed=true")
    found = []
    if refused:
        text = f"MongoDB refuses the login in {' and in '.join(refused)}: it is not the one that the database has."
        cure = (
            "put the database's password into the vault (integr8scode_mongo_root_password; it was made when the volume "
            f"was empty, and stays), then: {site}"
        )
        found.append(Finding("mongo", "problem", text, why, cure))
    elif not told["same"]:
        text = "secrets.toml and the files that Mongo's container reads hold different logins."
        found.append(Finding("mongo", "warning", text, why, site))
    for name, answer in places.items():
        if answer not in ("accepted", "refused"):
            text = f"The login in {name} could not be tried: {answer}."
            found.append(Finding("mongo", "problem", text, why, seen.site, name))
    return found or [Finding("mongo", "ok", "MongoDB answers and takes the login of the secrets.")]


def redis(seen: Seen) -> list[Finding]:
    """Whether Redis answers."""
    down = docker_is_down(seen, "redis")
    if down:
        return down
    why = "Logins fail with 500 although the backend counts as healthy, and nothing limits requests."
    if seen.answers["redis"].problem:
        return _silent("redis", seen, why)
    answer = seen["redis"]["answer"]
    if not answer.startswith("+PONG"):
        return [Finding("redis", "problem", f"Redis answers a ping with: {answer[:80]}.", why, _logs(seen, "redis"))]
    return [Finding("redis", "ok", "Redis answers.")]


def kafka(seen: Seen) -> list[Finding]:
    """Whether Kafka is ready, and whether the workers are in their groups."""
    down = docker_is_down(seen, "kafka")
    if down:
        return down
    why = "Logins and executions hang. After a start or restart of Kafka that passes within two minutes."
    if seen.answers["kafka"].problem:
        return _silent("kafka", seen, why)
    told = seen["kafka"]
    if told["controller"] < 0 or not told["brokers"]:
        text = "Kafka answers but is not ready: it has no controller."
        return [Finding("kafka", "problem", text, why, _logs(seen, "kafka"))]
    if told["groups"] is None:
        text = "Kafka answers but cannot tell its consumer groups yet."
        return [Finding("kafka", "warning", text, why, _logs(seen, "kafka"))]
    running = {one["service"] for one in seen["docker"]["containers"] if one["pid"]}
    lonely = [worker for group, worker in GROUPS.items() if worker in running and not told["groups"].get(group)]
    if lonely:
        text = f"{', '.join(lonely)} runs, but is not in its consumer group."
        why = "It gets no events. A worker that was started or killed a minute ago joins within 45 s."
        cure = "run the doctor again in a minute; if it stays, "
        cure += f"{_logs(seen, lonely[0])}; docker compose restart {lonely[0]}"
        return [Finding("kafka", "warning", text, why, cure)]
    return [Finding("kafka", "ok", f"Kafka is ready, with {len(told['groups'])} consumer groups.")]


def kafka_cluster_id(seen: Seen) -> list[Finding]:
    """Kafka's cluster id in the container and the release against the one that its volume was made with."""
    told = seen["kafka_volume"]
    wanted = seen["records"]["environment"].get("KAFKA_CLUSTER_ID", "").strip("'\"")
    why = "Kafka refuses to start with another id than its volume's (InconsistentClusterIdException)."
    if not told["volume"]:
        text = "Kafka's volume has no meta.properties: it is empty, or not the one of this stack."
        if not told["source"]:
            text = "Kafka's container has no volume for its data: they are lost with the container."
        return [Finding("kafka_cluster_id", "warning", text, why, _logs(seen, "kafka"))]
    other = {place: one for place, one in (("container", told["container"]), ("release", wanted)) if one}
    wrong = {place: one for place, one in other.items() if one != told["volume"]}
    if wrong:
        places = "; ".join(f"the {place} has {one}" for place, one in wrong.items())
        text = f"Kafka's volume was made with cluster id {told['volume']}, but {places}."
        cure = f"set integr8scode_kafka_cluster_id: {told['volume']} in the inventory, then: {seen.site}"
        return [Finding("kafka_cluster_id", "problem", text, why, cure)]
    return [Finding("kafka_cluster_id", "ok", "Kafka's cluster id is its volume's.")]


_EDGE_WORDS = {
    "api": "the backend (/api/v1/health/live)",
    "web": "the frontend's page",
}


def edge(seen: Seen) -> list[Finding]:
    """What the published ports answer."""
    found = []
    for name, told in seen["edge"].items():
        status, port = told["status"], told["port"]
        what = f"{_EDGE_WORDS[name]} on port {port}"
        service = "backend" if name == "api" else "frontend"
        if status == 429:
            text = f"Port {port} answers 429: too many requests from one address within a minute."
            why = (
                "The application refuses an address after 60 requests a minute. Users who share an address (a proxy, "
                "IPv6 through Docker's own proxy) share that."
            )
            cure = (
                "wait a minute. If users see it too, and something else limits requests: set RATE_LIMIT_ENABLED to "
                f"false in integr8scode_config, then: {seen.site}"
            )
            found.append(Finding("edge", "warning", text, why, cure, name))
        elif status in (502, 503, 504):
            text = f"The edge answers {status} for {what}: it sees no healthy {service}."
            why = "Users get an error page."
            found.append(Finding("edge", "problem", text, why, _logs(seen, service), name))
        elif status == 0:
            text = f"Nothing answers for {what}: {told['problem']}."
            why = "Users cannot reach the service."
            cure = f"{_logs(seen, 'edge')}; ss -ltnp 'sport = :{port}'"
            found.append(Finding("edge", "problem", text, why, cure, name))
        elif status != 200:
            text = f"The edge answers {status} for {what}, instead of 200."
            found.append(Finding("edge", "problem", text, "Users may see errors.", _logs(seen, service), name))
    return found or [Finding("edge", "ok", "Both ports answer 200.")]
