"""Two hundred texts that would run a script, or change the page, if any place of a page took them for markup.

Each calls ``pwned`` with its number if it runs.
"""

from collections.abc import Iterator

RUN = "pwned({n})"

PAYLOADS = (
    "<script>{run}</script>",
    "<ScRiPt/x>{run}</sCrIpT >",
    "<img src=x onerror={run}>",
    "<img src=x onerror=&#112;wned({n})>",
    "<svg onload={run}>",
    "<svg><script>{run}</script></svg>",
    "<svg><animate onbegin={run} attributeName=x dur=1s>",
    "<body onload={run}>",
    "<details open ontoggle={run}>x</details>",
    "<input autofocus onfocus={run}>",
    "<video><source onerror={run}></video>",
    "<marquee onstart={run}>x</marquee>",
    "<iframe srcdoc='<script>parent.{run}</script>'></iframe>",
    "<iframe src=javascript:parent.{run}></iframe>",
    "<object data=javascript:{run}></object>",
    "<embed src=javascript:{run}>",
    "<a href=javascript:{run} id=x>x</a>",
    "<form action=javascript:{run}><button>x</button></form>",
    "<button formaction=javascript:{run}>x</button>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:{run}'>",
    "<link rel=stylesheet href=data:text/css,*{{display:none}}>",
    "<style>*{{display:none}}</style>",
    "<math><mtext><table><mglyph><style><img src=x onerror={run}>",
    "<template shadowrootmode=open><script>{run}</script></template>",
    "<noscript><p title='</noscript><img src=x onerror={run}>'></noscript>",
    "<div hx-get=/ hx-trigger=load hx-target=body>x</div>",
    "<div hx-on:click={run} hx-on::load={run} hx-on:htmx:load={run}>x</div>",
    "<div hx-nonce='' hx-get='javascript:{run}' hx-trigger='load'>x</div>",
    "<form id=attributes><input name=attributes><input name=body></form>",
    "<img name=htmx><a id=htmx name=config>x</a>",
    "javascript:{run}",
    "JaVaScRiPt:{run}//",
    "data:text/html,<script>{run}</script>",
    "{{{{ {run} }}}}${{{run}}}#{{{run}}}<%= {run} %>",
    "nonce=\"x\" hx-nonce='y' onload={run}",
)
"""Markup, and what templates or htmx might take for code."""

BREAKS = (
    "",
    '"',
    "'",
    '">',
    "'>",
    "</textarea>",
    "</title>",
    "</pre></code></td></tr></table>",
    "-->",
    "]]>",
    "</style>",
    "</svg>",
    "\u2028",
    "&quot;>",
    "\\\"'`",
    "\x0b",
)
"""What ends the place in which a text stands."""


def hostile_texts(number: int = 200) -> list[str]:
    """Returns so many texts, each of which is another one."""
    return list(_made(number))


def _made(number: int) -> Iterator[str]:
    for n in range(number):
        payload = PAYLOADS[n % len(PAYLOADS)]
        lead = BREAKS[(n // len(PAYLOADS) + n) % len(BREAKS)]
        yield lead + payload.format(run=RUN.format(n=n), n=n)
