"""The admin's pages of jobs, programs, schedules, queues, notifications and tenants; importing this registers them."""

from django.contrib import admin

from jobsite.programs.admin import (
    audit,
    bulk,
    job,
    lane,
    notification_delivery,
    notification_group,
    notification_rule,
    notification_template,
    program,
    queue,
    schedule,
    tenant,
    worker,
)

admin.site.site_header = "jobsite"
admin.site.site_title = "jobsite"
admin.site.index_title = "Overview"
admin.site.site_url = None  # the admin is the site

__all__ = [
    "audit",
    "bulk",
    "job",
    "lane",
    "notification_delivery",
    "notification_group",
    "notification_rule",
    "notification_template",
    "program",
    "queue",
    "schedule",
    "tenant",
    "worker",
]
