import pytest

pytest.importorskip('rclpy')

from ros_side import BEST_EFFORT, LATCHED, RELIABLE
from std_msgs.msg import Int32

from camws_bridge.ros.matched_subscription import MatchedSubscription


class Subscriber:
    """A MatchedSubscription and what it received."""

    def __init__(self, graph):
        self.graph, self.numbers = graph, []
        self.subscription = MatchedSubscription(
            graph.node(), Int32, graph.topic('number'),
            lambda message: self.numbers.append(message.data))

    def follow(self, publishers):
        """Update once the graph shows the publishers."""
        def seen():
            self.subscription.update(True)
            return self.subscription.publishers == publishers
        self.graph.spin_until(seen, f'{publishers} publisher(s) seen')

    def receives(self, publisher, number):
        """Publish until a message arrives: right after matching one may get lost."""
        def arrived():
            publisher.publish(Int32(data=number))
            return number in self.numbers
        self.graph.spin_until(arrived, f'{number} arrives')
        return True


@pytest.fixture
def graph(wide_graph):
    return wide_graph


@pytest.fixture
def subscriber(graph):
    return Subscriber(graph)


@pytest.mark.parametrize('offers', [
    [RELIABLE], [BEST_EFFORT], [RELIABLE, BEST_EFFORT], [LATCHED, BEST_EFFORT]])
def test_every_publisher_is_received(graph, subscriber, offers):
    publishers = [graph.publisher(Int32, 'number', qos) for qos in offers]
    subscriber.follow(len(offers))
    for number, publisher in enumerate(publishers):
        assert subscriber.receives(publisher, number)


def test_reliability_is_asked_for_where_it_is_offered(graph, subscriber):
    publisher = graph.publisher(Int32, 'number', RELIABLE)
    subscriber.follow(1)
    graph.spin_until(lambda: publisher.get_subscription_count() == 1)
    info, = graph.peer.get_subscriptions_info_by_topic(graph.topic('number'))
    assert info.qos_profile.reliability is RELIABLE.reliability


def test_publishers_come_go_and_change(graph, subscriber):
    subscriber.follow(0)
    first = graph.publisher(Int32, 'number', RELIABLE)
    subscriber.follow(1)
    assert subscriber.receives(first, 1)
    second = graph.publisher(Int32, 'number', BEST_EFFORT)
    subscriber.follow(2)
    assert subscriber.receives(second, 2)
    assert subscriber.receives(first, 3)
    for publisher in (first, second):
        graph.peer.destroy_publisher(publisher)
    subscriber.follow(0)
    # The driver comes back with another reliability.
    third = graph.publisher(Int32, 'number', BEST_EFFORT)
    subscriber.follow(1)
    assert subscriber.receives(third, 4)


def test_what_is_latched_arrives_late(graph, subscriber):
    publisher = graph.publisher(Int32, 'number', LATCHED)
    publisher.publish(Int32(data=42))
    subscriber.follow(1)
    graph.spin_until(lambda: subscriber.numbers == [42], 'the latched message arrives')


def test_it_can_be_switched_off_and_on(graph, subscriber):
    publisher = graph.publisher(Int32, 'number')
    subscriber.follow(1)
    assert subscriber.subscription.is_active
    graph.spin_until(lambda: publisher.get_subscription_count() == 1, 'subscribed')
    subscriber.subscription.update(False)
    assert not subscriber.subscription.is_active
    # Publishers are still counted: health speaks of them.
    assert subscriber.subscription.publishers == 1
    graph.spin_until(lambda: publisher.get_subscription_count() == 0, 'unsubscribed')
    subscriber.subscription.update(True)
    assert subscriber.receives(publisher, 1)


def test_looking_again_changes_nothing_without_a_reason(graph, subscriber):
    publisher = graph.publisher(Int32, 'number')
    subscriber.follow(1)
    made = subscriber.subscription._subscription
    graph.publisher(Int32, 'number')
    subscriber.follow(2)
    assert subscriber.subscription._subscription is made
    assert subscriber.receives(publisher, 5)
