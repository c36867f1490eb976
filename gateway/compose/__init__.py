"""Makes the parts of a gateway from its settings; only here, and in `gateway/app.py`, are concrete parts named."""
