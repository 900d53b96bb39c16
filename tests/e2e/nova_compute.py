# SPDX-License-Identifier: LGPL-2.1-or-later
"""A nova-compute, as far as it live-migrates: Nova's own libvirt driver, guest and host classes, started as
nova-compute starts them. Run inside a host with one argument, a JSON object:

    connection_uri       where the driver finds this host's guests
    live_migration_uri   with %s for the destination's name
    watch                true: only print what the driver hears of its guests, until stdin ends
    uuid, memory         of the guest (MiB)
    destination          host name
    inbound_addr         live_migration_inbound_addr of the destination, or null
    force_after          live_migration_force_complete() once so many bytes were sent; null: nobody asks for it
    timeout_action       null, or live_migration_timeout_action, which the driver takes by itself after a few seconds

Prints lines of JSON: "ready", "event" (the driver's lifecycle events), "progress" (of each look at the
job), "forced", "saved" (what Nova would have written to its database), and at the end "done" with the method
of the compute manager that was called.

What is not Nova's here is its conductor, which would keep the database: it is only told.
"""
import nova.monkey_patch  # noqa: F401 (before anything else)

import json
import logging
import socket
import sys
import threading

import eventlet
from nova import config, context, exception, objects
from nova.objects import base as objects_base
import nova.conf
import nova.virt.libvirt.driver as libvirt_driver

CONF = nova.conf.CONF
_print_lock = threading.Lock()


def emit(what, **rest):
    with _print_lock:
        print(json.dumps({"what": what, **rest}), flush=True)


class Conductor:
    """Takes what objects are to be saved with. Its database has no instances, and no services."""

    def object_action(self, _context, instance, method, _args, _kwargs):
        if method != "save":
            raise NotImplementedError(f"{instance.obj_name()}.{method}")
        changed = instance.obj_get_changes()
        emit("saved", object=instance.obj_name(), changes={k: str(v) for k, v in changed.items()})
        return {}, None

    def object_class_action_versions(self, _context, name, method, _versions, _args, _kwargs):
        if name == "InstanceList":
            return objects.InstanceList(objects=[])
        if name == "Service":
            raise exception.ComputeHostNotFound(host=socket.gethostname())
        raise NotImplementedError(f"{name}.{method}")


def start_driver(options):
    config.parse_args(["nova-compute", "--config-file", "/dev/null"])
    CONF.set_override("use_stderr", False)
    CONF.set_override("virt_type", "qemu", "libvirt")
    CONF.set_override("connection_uri", options["connection_uri"], "libvirt")
    CONF.set_override("live_migration_uri", options["live_migration_uri"], "libvirt")
    CONF.set_override("live_migration_permit_post_copy", True, "libvirt")
    if options.get("timeout_action"):
        CONF.set_override("live_migration_completion_timeout", 1, "libvirt")     # for each GiB, of which 2 count
        CONF.set_override("live_migration_timeout_action", options["timeout_action"], "libvirt")
    objects.register_all()
    objects_base.NovaObject.indirection_api = Conductor()
    driver = libvirt_driver.LibvirtDriver(None)
    driver.register_event_listener(
        lambda event: emit("event", name=event.get_name(), uuid=event.get_instance_uuid()))
    driver.init_host(socket.gethostname())
    return driver


def make_instance(ctxt, options):
    flavor = objects.Flavor(memory_mb=options["memory"], extra_specs={})
    instance = objects.Instance(ctxt, uuid=options["uuid"], flavor=flavor, vm_state="active", progress=0,
                                system_metadata={}, resources=None, migration_context=None)
    instance.obj_reset_changes()
    return instance


def make_migrate_data(ctxt, options):
    migration = objects.Migration(ctxt, id=1, status="running", migration_type="live-migration",
                                  instance_uuid=options["uuid"])
    migration.obj_reset_changes()
    return objects.LibvirtLiveMigrateData(
        migration=migration, block_migration=False, bdms=[], is_shared_block_storage=True,
        is_shared_instance_path=True, serial_listen_addr="127.0.0.1", serial_listen_ports=[],
        supported_perf_events=[], target_connect_addr=options["inbound_addr"])


def look(guest):
    info = guest.get_job_info()
    emit("progress", type=info.type, total=info.memory_total, processed=info.memory_processed,
         remaining=info.memory_remaining)
    return info


def force_when_due(driver, instance, after):
    """What an operator does by nova-api, while the driver watches the migration."""
    guest = driver._host.get_guest(instance)
    while look(guest).memory_processed < after:
        eventlet.sleep(0.1)
    driver.live_migration_force_complete(instance)
    emit("forced")


def migrate(driver, options):
    ctxt = context.get_admin_context()
    instance = make_instance(ctxt, options)
    forcing = options["force_after"] and eventlet.spawn(force_when_due, driver, instance, options["force_after"])

    def method(name):
        def called(*_args, **kwargs):
            emit("done", method=name, **{k: str(v) for k, v in kwargs.items()})
        return called

    driver.live_migration(ctxt, instance, options["destination"], method("post"), method("recover"),
                          block_migration=False, migrate_data=make_migrate_data(ctxt, options))
    if forcing:
        forcing.wait()


def main(text):
    options = json.loads(text)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    driver = start_driver(options)
    emit("ready")
    if options.get("watch"):
        eventlet.tpool.execute(sys.stdin.read)
    else:
        migrate(driver, options)


if __name__ == "__main__":
    main(sys.argv[1])
