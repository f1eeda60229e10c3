"""The servers that fault tests kill must come back with what they had confirmed (F17, F45)."""

import pika
import psycopg
import pytest
from pika.exceptions import AMQPError

from tests.processes import descendants, is_alive
from tests.servers import LOOPBACK, PostgresServer, RabbitServer, free_port, is_free


@pytest.mark.fault("F17")
def test_a_killed_rabbitmq_comes_back_on_its_port_with_its_confirmed_messages(rabbit_server: RabbitServer) -> None:
    first_pid, url = rabbit_server.pid, rabbit_server.url
    assert first_pid is not None
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare("survivors", durable=True)
    # RabbitMQ writes down what queues there are some seconds later: a kill right now would lose the queue itself.
    rabbit_server.stop()
    rabbit_server.start()
    first_pid = rabbit_server.pid
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "", "survivors", b"still here", pika.BasicProperties(delivery_mode=2), mandatory=True
        )
        rabbit_server.kill()
        with pytest.raises(AMQPError):
            channel.basic_publish("", "survivors", b"too late", mandatory=True)
    assert rabbit_server.pid is None

    rabbit_server.start()

    assert (rabbit_server.url, rabbit_server.pid != first_pid) == (url, True)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        body: object = connection.channel().basic_get("survivors", auto_ack=True)[2]
        assert body == b"still here"


@pytest.mark.fault("F45")
def test_a_killed_postgresql_comes_back_on_its_port_with_its_commits(postgres_server: PostgresServer) -> None:
    url = postgres_server.url
    with psycopg.connect(url) as connection:
        connection.execute("create table survivors (name text)")
        connection.execute("insert into survivors values ('still here')")
        connection.commit()
        connection.execute("insert into survivors values ('never committed')")
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")

    postgres_server.start()

    with psycopg.connect(url) as connection:
        assert connection.execute("select name from survivors").fetchall() == [("still here",)]


def test_kill_leaves_no_process_of_the_server(
    postgres_server: PostgresServer, rabbit_server: RabbitServer
) -> None:
    pids = [server.pid for server in (postgres_server, rabbit_server)]
    family = [member for pid in pids if pid for member in (pid, *descendants(pid))]
    assert len(family) > 4
    postgres_server.kill()
    rabbit_server.kill()
    assert [pid for pid in family if is_alive(pid)] == []


def test_a_stopped_server_is_started_again_and_a_running_one_is_left_alone(
    postgres_server: PostgresServer,
) -> None:
    postgres_server.stop()
    assert (postgres_server.pid, is_free(postgres_server.port)) == (None, True)
    postgres_server.start()
    pid = postgres_server.pid
    postgres_server.start()
    assert pid is not None
    assert postgres_server.pid == pid


def test_a_port_in_use_is_passed_over(postgres_server: PostgresServer) -> None:
    assert not is_free(postgres_server.port)
    assert free_port(postgres_server.port) > postgres_server.port
    assert LOOPBACK in postgres_server.url
