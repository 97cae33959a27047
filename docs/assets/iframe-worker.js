// No page that is opened as a file may start a worker. So the script of the search runs in a frame, and both speak as with a worker.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement('iframe');
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent('message', {data}));
      const script = this.inside.document.createElement('script');
      script.src = address;
      this.ready = new Promise((loaded) => script.addEventListener('load', loaded));
      this.inside.document.body.append(script);
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent('message', {data})));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
