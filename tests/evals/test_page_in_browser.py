"""The page in a real headless Chromium, from disk; skipped where none is installed."""

import shutil

import pytest

from assent.evals.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ["demo", "three_seeds", "real_data", "sft_only", "reward_only", "ppo_only", "several_runs"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EMPTY_CHARTS = """[...document.querySelectorAll('.chart')].filter(chart => {
  const drawn = [...chart.querySelectorAll('polyline.line, circle.dot')];
  return !drawn.some(one => { const box = one.getBoundingClientRect(); return box.width > 3 && box.height > 1; });
}).map(chart => chart.querySelector('strong').textContent)"""
CUT_TEXT = """[...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def addresses(evidence_by_name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_report(evidence_by_name[name], folder / name).as_uri() for name in NAMES}


def opened(browser, address: str, *, width: int = 1280, theme: str = "light"):
    """A page with what it said and asked for: (page, complaints, requests)."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    return page, complaints, requests


@pytest.mark.parametrize("name", NAMES)
def test_the_page_opens_without_complaint_or_request_and_every_chart_shows_something(browser, addresses, name):
    page, complaints, requests = opened(browser, addresses[name])
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate(EMPTY_CHARTS) == []
    assert page.locator(".chart").count() > 0
    assert complaints == []
    assert requests == [addresses[name]]
    page.close()


@pytest.mark.parametrize("width", [360, 768, 1600])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_sideways(browser, addresses, name, width):
    page, _, _ = opened(browser, addresses[name], width=width)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_TEXT) == []
    page.close()


def test_hostile_samples_stay_inert(browser, addresses):
    page, complaints, _ = opened(browser, addresses["real_data"])
    page.mouse.move(640, 450)
    assert page.evaluate("window.__hacked === undefined")
    assert page.locator("main script, main iframe, main img, main style, main a").count() == 0
    assert page.locator(".said").first.is_visible()
    assert complaints == []
    page.close()


def test_the_policy_stops_a_script_that_got_in(browser, addresses):
    page, complaints, _ = opened(browser, addresses["sft_only"])
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.__hacked = 1'}))"
    )
    assert page.evaluate("window.__hacked === undefined")
    assert any("Content Security Policy" in text for text in complaints)
    page.close()


def test_hovering_and_arrow_keys_tell_values(browser, addresses):
    page, complaints, _ = opened(browser, addresses["demo"])
    frame = page.locator("#over-optimisation .frame").first
    frame.scroll_into_view_if_needed()
    readout = frame.locator(".readout")
    assert not readout.is_visible()
    frame.hover()
    assert "PPO" in readout.inner_text()
    page.mouse.move(0, 0)
    assert not readout.is_visible()
    frame.focus()
    page.keyboard.press("Home")
    assert readout.inner_text().startswith("iteration 0\n")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("iteration 4\n")
    assert complaints == []
    page.close()


def test_light_and_dark_have_readable_text(browser, addresses):
    for theme in ("light", "dark"):
        page, _, _ = opened(browser, addresses["demo"], theme=theme)
        ratios = page.evaluate(
            """() => {
              const shade = css => { const c = css.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
              const back = shade(getComputedStyle(document.body).backgroundColor);
              const texts = 'h1, h2, p, dt, dd b, small, .name, .label, .tick, summary';
              return [...document.querySelectorAll(texts)].map(one => {
                const style = getComputedStyle(one);
                const front = shade(one instanceof SVGElement ? style.fill : style.color);
                return [(Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05), one.textContent.slice(0, 30)];
              });
            }"""
        )
        assert [pair for pair in ratios if pair[0] < 4.5] == []
        page.close()
