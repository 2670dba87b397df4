// What a test asks the page itself: contrasts, names, sizes and order.
(() => {
  const parse = (text) => {
    const parts = text.match(/[\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1; // color(srgb 0.1 0.2 0.3)
    return { rgb: parts.slice(0, 3).map((part) => part * scale), alpha: parts[3] ?? 1 };
  };
  const over = (top, bottom) => top.rgb.map((part, at) => part * top.alpha + bottom[at] * (1 - top.alpha));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(parse(getComputedStyle(one).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && element.getClientRects().length > 0 && !element.closest(".spoken");

  window.faint = (least) => {
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const element = walk.currentNode.parentElement;
      const text = walk.currentNode.textContent.trim();
      if (!text || !visible(element) || element.closest(":disabled, script, noscript, option, .skip")) continue;
      const style = getComputedStyle(element);
      const ink = parse(element instanceof SVGElement ? style.fill : style.color);
      const below = ground(element);
      const [high, low] = [light(over(ink, below)), light(below)].sort((a, b) => b - a);
      const contrast = (high + 0.05) / (low + 0.05);
      if (contrast < least) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return found;
  };

  window.small = (least) =>
    [...document.querySelectorAll("button, select, input, summary, .jump a, .top a")]
      .filter(visible)
      .map((element) => (element.type === "checkbox" ? element.closest("label") : element))
      .map((element) => [element, element.getBoundingClientRect()])
      .filter(([, box]) => box.height < least || box.width < least)
      .map(([element, box]) => `${element.outerHTML.slice(0, 60)}: ${Math.round(box.width)} x ${Math.round(box.height)}`);

  window.wide = () => {
    const most = document.documentElement.clientWidth;
    return [...document.body.querySelectorAll("*")]
      .filter((element) => visible(element) && !element.closest(".scroll, pre") && element.getBoundingClientRect().right > most + 0.5)
      .map((element) => element.outerHTML.slice(0, 80));
  };

  window.levels = () => [...document.querySelectorAll("h1, h2, h3")].filter((heading) => heading.checkVisibility()).map((heading) => Number(heading.tagName[1]));
})();
