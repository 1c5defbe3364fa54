"""What a server listens to and allows: the flags of `exaone serve`."""

from pydantic import Field, field_validator

from open_exaone.base.config import Config


class ServeConfig(Config):
    """Where a server listens, who may ask, and how much."""

    host: str = "127.0.0.1"
    """The address to listen on; only programs on this machine reach the default."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 chooses a free one."""
    api_key: str | None = Field(default=None, min_length=1)
    """What clients must send as their key; the environment variable OPEN_EXAONE_API_KEY, if left out. On a command line
    other users of this machine can read it."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of these origins may ask, such as https://chat.example.org; only the server's own page if left out."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which this server is reached, such as those of a proxy in front of it."""
    thinking: bool = True
    """Think where a request does not say."""
    max_waiting: int = Field(default=256, ge=0)
    """Replies that wait for a free place; above that, requests are refused with status 429."""
    deadline_s: float = Field(default=600.0, gt=0, le=86_400)
    """The longest that one request may take, its waiting included."""
    drain_s: float = Field(default=30.0, ge=0, le=3600)
    """After SIGTERM, how long accepted requests may go on."""
    max_body_bytes: int = Field(default=8 << 20, ge=1024)
    """The largest request."""
    max_messages: int = Field(default=1024, ge=1)
    """The most messages of one conversation."""
    max_samples: int = Field(default=64, ge=1)
    """The most replies that one request may ask for, and prompts that it may hold."""
    max_schema_bytes: int = Field(default=64 << 10, ge=0)
    """The largest JSON schema, and the largest list of tools."""
    schema_timeout_s: float = Field(default=10.0, gt=0)
    """The longest that a JSON schema may take to compile."""
    max_connections: int = Field(default=900, ge=1)
    """Connections that are open at once; further ones get status 503 and are closed."""
    max_unread_tokens: int = Field(default=8192, ge=64)
    """A streamed reply is cancelled when its client leaves more tokens than this unread."""
    client_timeout_s: float = Field(default=30.0, gt=0)
    """The longest that a request may take to arrive, and that a client may read nothing of a streamed reply."""

    @field_validator("api_key")
    @classmethod
    def _is_sendable(cls, key: str | None) -> str | None:
        if key is not None and (key != key.strip() or "\n" in key or "\r" in key):
            raise ValueError("holds blanks at an end, or a line end, which no client can send: take them out")
        return key
