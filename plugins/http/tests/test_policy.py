"""Where requests may go, as pure rules: hosts by name, addresses by where their packets end up."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq_http import HttpSettings
from oq_http.policy import METADATA_NETWORKS, Policy, faces, plain_host


def policy(**settings):
    return Policy.of(HttpSettings(**settings))


def carriers(inner):
    """Every way to write an IPv4 address in IPv6, or to have it carried."""
    number = int(inner)
    return [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64_FF9B << 96 | number),
        IPv6Address(0x64_FF9B_0001 << 80 | number),
        IPv6Address(0x64_FF9B_0001 << 80 | number >> 16 << 64 | (number & 0xFFFF) << 40),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x2001_0000 << 96 | (number ^ 0xFFFF_FFFF)),
        IPv6Address(0x2001_0DB8 << 96 | 0x5EFE << 32 | number),
        IPv6Address(number),
    ]


class TestDefaults:
    @pytest.mark.parametrize(
        "address",
        [
            "169.254.169.254",
            "169.254.0.1",
            "169.254.170.2",
            "fe80::1",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ],
    )
    def test_link_local_and_metadata_addresses_are_denied(self, address):
        assert "allow_metadata" in policy().address_objection(ip_address(address))
        assert policy(allow_metadata=True).address_objection(ip_address(address)) is None

    @pytest.mark.parametrize(
        "host",
        [
            "metadata.google.internal",
            "METADATA.GOOGLE.INTERNAL.",
            "metadata",
            "metadata.goog",
            "instance-data.ec2.internal",
        ],
    )
    def test_so_are_the_names_of_metadata_services(self, host):
        assert "allow_metadata" in policy().host_objection(host)

    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254",
            "[fe80::1]",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "0251.0376.0251.0376",
            "::ffff:a9fe:a9fe",
        ],
    )
    def test_an_address_as_a_host_is_denied_in_every_way_to_write_it(self, host):
        assert "allow_metadata" in policy().host_objection(host)

    @pytest.mark.parametrize(
        "address", ["127.0.0.1", "::1", "0.0.0.0", "10.1.2.3", "192.168.0.1", "fd12::1", "8.8.8.8"]
    )
    def test_this_machine_and_private_networks_are_allowed(self, address):
        assert policy().address_objection(ip_address(address)) is None

    @pytest.mark.parametrize("address", ["224.0.0.1", "ff02::1", "255.255.255.255"])
    def test_addresses_of_many_are_denied(self, address):
        assert "single machine" in policy(allow_metadata=True).address_objection(ip_address(address))

    @pytest.mark.parametrize(
        "host", ["example.com", "metadata.example.com", "localhost", "bücher.de", "a..b", "x" * 300]
    )
    def test_other_names_are_allowed(self, host):
        assert policy().host_objection(host) is None


class TestNetworks:
    def test_a_denied_network_is_denied(self):
        denying = policy(denied_networks=["10.0.0.0/8"])
        assert "denied_networks" in denying.address_objection(ip_address("10.1.2.3"))
        assert denying.address_objection(ip_address("11.1.2.3")) is None

    def test_where_some_are_allowed_others_are_not(self):
        allowing = policy(allowed_networks=["10.0.0.0/8", "fd00::/8"])
        assert allowing.address_objection(ip_address("10.1.2.3")) is None
        assert allowing.address_objection(ip_address("::ffff:10.1.2.3")) is None
        assert allowing.address_objection(ip_address("fd12::1")) is None
        assert "allowed_networks" in allowing.address_objection(ip_address("8.8.8.8"))
        assert "allowed_networks" in allowing.address_objection(ip_address("::1"))

    def test_an_address_of_another_network_is_not_allowed_for_what_it_carries(self):
        allowing = policy(allowed_networks=["10.0.0.0/8"])
        assert "allowed_networks" in allowing.address_objection(ip_address("64:ff9b::10.1.2.3"))

    def test_denied_wins(self):
        both = policy(allowed_networks=["10.0.0.0/8"], denied_networks=["10.1.0.0/16"])
        assert "denied_networks" in both.address_objection(ip_address("10.1.2.3"))

    def test_allowing_a_metadata_network_does_not_allow_metadata(self):
        assert policy(allowed_networks=["169.254.0.0/16"]).address_objection(ip_address("169.254.169.254"))

    @pytest.mark.parametrize(
        "address", ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::127.0.0.1"]
    )
    def test_addresses_that_mean_this_machine_are_denied_with_it(self, address):
        assert policy(denied_networks=["127.0.0.0/8"]).address_objection(ip_address(address))

    def test_the_address_that_means_this_machine_is_allowed_with_it(self):
        assert policy(allowed_networks=["127.0.0.0/8"]).address_objection(ip_address("0.0.0.0")) is None

    @given(st.integers(0, 2**32 - 1).map(IPv4Address))
    def test_no_ipv6_address_reaches_an_ipv4_address_that_is_denied(self, inner):
        denying = policy(denied_networks=[str(inner)], allow_metadata=True)
        for address in carriers(inner):
            if int(address) > 1:
                assert denying.address_objection(address), address

    @given(st.sampled_from(METADATA_NETWORKS), st.data())
    def test_no_metadata_address_is_ever_allowed_by_default(self, network, data):
        size = network.num_addresses
        address = network[data.draw(st.integers(0, size - 1))]
        every = [address, *(carriers(address) if address.version == 4 else ())]
        assert all("allow_metadata" in policy().address_objection(each) for each in every)

    @given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
    def test_an_address_is_the_first_of_its_faces(self, address):
        assert next(iter(faces(address))) == address

    @given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 32))
    def test_an_address_in_a_denied_network_is_denied(self, address, bits):
        network = ip_network((address, bits), strict=False)
        assert policy(denied_networks=[str(network)]).address_objection(address)


class TestHosts:
    def test_a_denied_host_is_denied(self):
        denying = policy(denied_hosts=["example.com", "*.internal"])
        assert "denied_hosts" in denying.host_objection("EXAMPLE.com.")
        assert "denied_hosts" in denying.host_objection("a.b.internal")
        assert denying.host_objection("www.example.com") is None

    def test_where_some_are_allowed_others_are_not(self):
        allowing = policy(allowed_hosts=["*.example.com", "10.0.0.1", "bücher.de"])
        assert allowing.host_objection("api.Example.com") is None
        assert allowing.host_objection("10.0.0.1") is None
        assert allowing.host_objection("xn--bcher-kva.de") is None
        for host in ("example.com", "example.com.evil.test", "10.0.0.2", "xexample.com"):
            assert "allowed_hosts" in allowing.host_objection(host)

    @pytest.mark.parametrize("written", ["straße.de", "*.bücher.de", "ελλάδα.gr", "*.straße.*"])
    def test_a_host_in_any_alphabet_is_the_same_as_it_is_asked_for(self, written):
        """As httpx reads it, which is what is connected to."""
        host = httpx.URL(f"http://{written.replace('*', 'x')}/").raw_host.decode()
        assert "denied_hosts" in policy(denied_hosts=[written]).host_objection(host)
        assert "denied_hosts" in policy(denied_hosts=[written]).host_objection(written.replace("*", "x"))

    def test_denied_wins(self):
        both = policy(allowed_hosts=["*.example.com"], denied_hosts=["admin.example.com"])
        assert "denied_hosts" in both.host_objection("admin.example.com")

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001"])
    def test_an_address_is_the_same_host_in_every_way_to_write_it(self, host):
        assert policy(denied_hosts=["127.0.0.1"]).host_objection(host)
        assert plain_host(host) == "127.0.0.1"

    def test_a_host_that_is_an_address_needs_an_allowed_network_too(self):
        assert "allowed_networks" in policy(allowed_networks=["10.0.0.0/8"]).host_objection("11.0.0.1")

    @given(st.text())
    def test_no_text_breaks_the_rules(self, host):
        assert policy(allowed_hosts=["example.com"]).host_objection(host) is None or True
