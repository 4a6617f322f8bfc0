"""The ASGI application of the web process."""

import os
import warnings

from django.core.asgi import get_asgi_application

# WhiteNoise reads the admin's static files without await. They are few and small, so this is harmless.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")

application = get_asgi_application()

from jobsite.programs.worker import lookout  # noqa: E402 - models can be imported only now

lookout.start()
