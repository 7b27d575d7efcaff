// A page that is opened from a folder may not start a worker, in which the theme's search runs. This stands in: the
// worker's script runs in a hidden frame of the page, and messages go to and fro as they would. The theme's search looks
// for it by its name.
(() => {
  "use strict";
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = inside.document.createElement("script");
          script.src = new URL(source, location.href).href;
          script.addEventListener("load", resolve);
          script.addEventListener("error", () => reject(new Error(`${script.src} cannot be read.`)));
          inside.document.head.append(script);
        });
      inside.importScripts = (...sources) => sources.reduce((done, one) => done.then(() => load(one)), Promise.resolve());
      inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      this.ready = load(url);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = window.Worker = IFrameWorker;
})();
