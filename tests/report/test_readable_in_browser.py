"""What a browser shows of a page is readable, in any colours, on any screen and on paper."""

from __future__ import annotations

import base64
import re

import pytest
from pages import click, facts_and_drawing, look_at, on, show, shown_rows
from servers import wait_until


@pytest.mark.slow
@on('tiny')
def test_drawing_is_beside_the_metric(browser, pages, name):
    show(browser, pages.path(name))
    facts, drawing = facts_and_drawing(browser)
    assert facts['right'] <= drawing['left'] and abs(facts['top'] - drawing['top']) < 100


CONTRASTS = """
    const channels = color => { const c = color.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const luminance = color => { const [r, g, b] = color.map(c => c / 255).map(
        c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    function ground(element) {
        if (!element) return [255, 255, 255];
        return over(channels(getComputedStyle(element).backgroundColor), ground(element.parentElement));
    }
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        const box = element.getBoundingClientRect(), style = getComputedStyle(element);
        if (!own || !box.width || element.disabled || element.closest('script, style, noscript, .skip, tspan')) continue;
        let below = ground(element);
        const rect = element.closest('.network') && element.parentElement.querySelector('rect');
        if (rect && getComputedStyle(rect).fill !== 'none') below = over(channels(getComputedStyle(rect).fill), below);
        const color = channels(element.ownerSVGElement ? style.fill : style.color);
        color[3] *= Number(style.opacity);
        const [high, low] = [luminance(over(color, below)), luminance(below)].sort((a, b) => b - a);
        found.push([(high + 0.05) / (low + 0.05), element.textContent.trim().slice(0, 40), parseFloat(style.fontSize)]);
    }
    return found"""


@pytest.mark.slow
@on('mixed')
def test_print(browser, pages, name):
    show(browser, pages.path(name), scheme='dark')
    pdf = base64.b64decode(browser.execute_cdp_cmd('Page.printToPDF', {})['data'])
    assert len(re.findall(rb'/Type\s*/Page\b', pdf)) in range(4, 16)
    look_at(browser, 690, 'dark', 'print')
    browser.execute_script("window.look = null; dispatchEvent(new Event('beforeprint'))")
    widths = browser.execute_script("return [...document.querySelectorAll('.drawn')].map(plot => plot._fullLayout.width)")
    assert set(widths) == {610}
    assert [each for each in browser.execute_script(CONTRASTS) if each[0] < 4.5] == []
    assert browser.execute_script("""return [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('nav')).display]""") == ['rgb(255, 255, 255)', 'none']
    assert len(shown_rows(browser)) == 50
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(shown_rows(browser)) == 25


@pytest.mark.slow
@on('mixed', 'both', 'tiny', 'empty')
def test_text_is_readable(browser, pages, name):
    """In light colours and in dark ones, of which a page shows first what the browser prefers."""
    scheme = 'dark' if name in ('mixed', 'both') else 'light'
    show(browser, pages.path(name), scheme=scheme)
    check_readable(browser, scheme)
    click(browser, '#theme')
    check_readable(browser, 'light' if scheme == 'dark' else 'dark')


def check_readable(browser, scheme):
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 50
    assert [each for each in found if each[0] < 4.5] == []
    assert [each for each in found if each[2] < 9] == []
    ground = browser.execute_script('return getComputedStyle(document.body).backgroundColor')
    assert (sum(map(int, re.findall(r'\d+', ground))) < 200) == (scheme == 'dark')


FAINT = """
    const luminance = color => { const [r, g, b] = color.match(/[0-9.]+/g).map(c => c / 255).map(
        c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const card = luminance(getComputedStyle(document.querySelector('.card.plot')).backgroundColor);
    const drawn = [...document.querySelectorAll('.drawn .scatterlayer path')].map(path => getComputedStyle(path));
    const colors = new Set(drawn.flatMap(style => [style.fill, style.stroke]).filter(color => color.startsWith('rgb(')));
    const contrast = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return [...colors].filter(color => contrast(luminance(color), card) < 3)"""


@pytest.mark.slow
@on('mixed')
def test_points_and_lines_are_seen(browser, pages, name):
    for scheme in ('light', 'dark'):
        show(browser, pages.path(name), scheme=scheme)
        assert browser.execute_script(FAINT) == []


@pytest.mark.slow
@on('tiny')
def test_drawing_is_whole(browser, pages, name):
    show(browser, pages.path(name))
    assert browser.execute_script("""return [...document.querySelectorAll('.paper')].every(
        paper => paper.scrollHeight <= paper.clientHeight && paper.scrollWidth <= paper.clientWidth)""")


@pytest.mark.slow
@on('tiny')
def test_drawing_is_below_the_metric_on_a_phone(browser, pages, name):
    show(browser, pages.path(name), width=390)
    facts, drawing = facts_and_drawing(browser)
    assert drawing['top'] > facts['top'] and drawing['left'] < facts['right']


@pytest.mark.slow
@on('mixed', 'both', 'tiny')
def test_nothing_is_wider_than_the_screen(browser, pages, name):
    """Neither of a phone, nor when that becomes a larger screen."""
    show(browser, pages.path(name), width=390)
    check_widths(browser, 390)
    for width in (768, 1100):
        browser.execute_script('window.look = null')
        look_at(browser, width, 'light', '')
        wait_until(lambda width=width: browser.execute_script('return innerWidth') == width and fit(browser))
        check_widths(browser, width)


def check_widths(browser, width):
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    plots = plot_widths(browser)
    assert plots and fit(browser) and max(outer for outer, _ in plots) <= width


def plot_widths(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('.drawn')].map(plot => [plot.clientWidth, plot._fullLayout.width])"
    )


def fit(browser):
    """Whether all plots are as wide as the places that they are in."""
    return all(abs(outer - inner) <= 1 for outer, inner in plot_widths(browser))
