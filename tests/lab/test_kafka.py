"""The lab's Kafka: environment, refusals, user and way to stop of cp-kafka 7.8.2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.containers import Running, running, volume

CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"
ENVIRONMENT = {
    "CLUSTER_ID": CLUSTER,
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:29093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "PLAINTEXT://kafka:29092,CONTROLLER://kafka:29093,PLAINTEXT_HOST://0.0.0.0:9092",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:9092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_NUM_PARTITIONS": "3",
    "KAFKA_HEAP_OPTS": "-Xms256m -Xmx1g",
}
DATA = "/var/lib/kafka/data"
HEALTH = "kafka-broker-api-versions --bootstrap-server localhost:9092"
STARTED = "Kafka Server started"


@pytest.fixture(scope="module")
def data() -> Iterator[str]:
    with volume() as name:
        yield name


@pytest.fixture(scope="module")
def kafka(data: str) -> Iterator[Running]:
    with running("kafka", environment=ENVIRONMENT, volumes={data: DATA}, hostname="kafka", mem_limit="1280m") as broker:
        broker.wait_log(STARTED, 60)
        yield broker


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name not in names}


def test_answers_the_health_check_and_carries_messages(kafka: Running) -> None:
    assert "Produce(0)" in kafka.ask(HEALTH)
    # made on demand, with the partitions of the environment
    kafka.must("echo hello | kafka-console-producer --bootstrap-server kafka:29092 --topic lab")
    described = kafka.ask("kafka-topics --bootstrap-server kafka:29092 --describe --topic lab")
    assert "PartitionCount: 3" in described
    kafka.must(
        "kafka-console-consumer --bootstrap-server kafka:29092 --topic lab --group readers --from-beginning "
        "--max-messages 1 --timeout-ms 15000 > /tmp/consumed"
    )
    assert kafka.ask("cat /tmp/consumed") == "hello"
    assert kafka.ask("kafka-consumer-groups --bootstrap-server kafka:29092 --list") == "readers"


def test_runs_as_appuser_with_java_as_process_one(kafka: Running) -> None:
    assert kafka.ask(["id", "-u"]) == "1000"
    words = kafka.ask("tr '\\0' ' ' < /proc/1/cmdline")
    assert words.startswith("java -Xms256m -Xmx1g ")
    assert words.endswith("kafka.Kafka /etc/kafka/kafka.properties ")


def test_writes_properties_as_cp_kafka_does(kafka: Running) -> None:
    lines = kafka.ask("cat /etc/kafka/kafka.properties").splitlines()
    assert "num.partitions=3" in lines
    assert f"log.dirs={DATA}" in lines
    # a slip of cp-kafka 7.8's template, which Kafka does not mind
    assert "heap.opts=-Xms256m -Xmx1g" in lines
    assert not [line for line in lines if line.startswith("cluster")]


def test_has_no_tools_but_the_real_ones_by_their_names(kafka: Running) -> None:
    assert kafka.say("kafka-topics.sh --version")[0] == 127
    assert kafka.say("kafka-broker-api-versions --bootstrap-server localhost:1 --no-such-option")[0] == 1


# the next two stop the module's broker: they come last among those that use it
def test_sigterm_stops_it_cleanly(kafka: Running) -> None:
    assert kafka.stop(30) == 143
    assert "App info kafka.server for 1 unregistered" in kafka.logs
    assert "[BrokerServer id=1] shut down completed" in kafka.logs or "shut down completed" in kafka.logs
    assert (kafka.container.attrs["State"]["OOMKilled"]) is False


def test_a_stopped_volume_is_found_again_and_keeps_its_cluster_id(kafka: Running, data: str) -> None:
    if kafka.status != "exited":
        kafka.stop(30)
    changed = {**ENVIRONMENT, "CLUSTER_ID": OTHER_CLUSTER}
    with running("kafka", environment=changed, volumes={data: DATA}, hostname="kafka") as refused:
        assert refused.wait_end() == 1
        assert f"Invalid cluster.id in: {DATA}/meta.properties" in refused.logs
        assert f"Expected {OTHER_CLUSTER}, but read {CLUSTER}" in refused.logs
    with running("kafka", environment=ENVIRONMENT, volumes={data: DATA}, hostname="kafka") as again:
        again.wait_log(STARTED, 60)
        assert "already formatted" in again.logs
        assert "lab" in again.ask("kafka-topics --bootstrap-server kafka:29092 --list").splitlines()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (without("CLUSTER_ID"), "CLUSTER_ID is required.\nCommand [/usr/local/bin/dub ensure CLUSTER_ID] FAILED !"),
        (without("KAFKA_ADVERTISED_LISTENERS"), "KAFKA_ADVERTISED_LISTENERS is required."),
        (without("KAFKA_PROCESS_ROLES"), "KAFKA_ZOOKEEPER_CONNECT is required."),
        ({**ENVIRONMENT, "KAFKA_PORT": "9092"}, "port is deprecated. Please use KAFKA_ADVERTISED_LISTENERS instead."),
        ({**ENVIRONMENT, "KAFKA_PROCESS_ROLES": "controller"}, "is not supported on a KRaft controller"),
        (without("KAFKA_NODE_ID"), "node.id"),
        ({**ENVIRONMENT, "KAFKA_ADVERTISED_LISTENERS": "SSL://kafka:29092"}, "not supported by the lab's stand-in"),
    ],
    ids=["no id", "no listeners", "no roles", "old name", "controller", "no node", "tls"],
)
def test_refuses_an_environment_that_cp_kafka_refuses(environment: dict[str, str], message: str) -> None:
    with running("kafka", environment=environment, hostname="kafka") as broker:
        assert broker.wait_end() == 1, broker.logs
        assert message in broker.logs


def test_refuses_a_volume_that_it_cannot_write() -> None:
    with running("kafka", environment=ENVIRONMENT, hostname="kafka", tmpfs={DATA: "uid=0,mode=0755"}) as broker:
        assert broker.wait_end() == 1
        assert f"Command [/usr/local/bin/dub path {DATA} writable] FAILED !" in broker.logs
