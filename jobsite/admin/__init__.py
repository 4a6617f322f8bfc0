"""What the admin pages of all applications share; importing this names the site and registers the audit."""

from django.contrib import admin

from jobsite.admin import audit

admin.site.site_header = "jobsite"
admin.site.site_title = "jobsite"
admin.site.index_title = "Overview"
admin.site.site_url = None  # the admin is the site

__all__ = ["access", "audit", "base", "display", "filters", "keyset", "reason_form", "row_acts"]
